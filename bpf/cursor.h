/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The bytes of a packet that a program may read directly, and a checked way to its headers. */
#pragma once

#include <linux/bpf.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#define OFFSET_MASK 0x3ff /* the verifier needs a bound on a variable offset */

struct cursor {
	void *data;
	void *end;
};

/* Returns the header of `size` bytes at `offset`, or NULL where the packet is shorter. */
static __always_inline void *header_at(const struct cursor *cursor, __u32 offset, __u32 size)
{
	void *header = cursor->data + offset;

	return header + size > cursor->end ? NULL : header;
}
