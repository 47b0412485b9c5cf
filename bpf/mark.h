/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The mark of packets that a hook has redirected to a device. */
#pragma once

#include "context.h"
#include "kubypass.h"

/* A device's own hook recognises the packet by it. */
static __always_inline void mark_forwarded(context *ctx)
{
	write_mark(ctx, MARK_FORWARDED);
}

/* Has another hook sent the packet here? Then it is complete and counted. The mark goes. */
static __always_inline bool take_forwarded_mark(context *ctx)
{
	if (read_mark(ctx) != MARK_FORWARDED)
		return false;
	write_mark(ctx, 0);
	return true;
}
