/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The one way out: every verdict on a packet is counted here and becomes what the hook returns, or the next part. */
#pragma once

#include "count.h"
#include "packet.h"
#include "step.h"

static __always_inline union step finish(context *ctx, enum hook hook, const struct packet *packet,
					 enum verdict verdict)
{
	count(hook, verdict, packet_bytes(ctx));
	if (verdict > VERDICT_ANSWER)
		return (union step){ .next = NEXT_ICMP_REPLY, .verdict = verdict, .mtu = packet->mtu };
	if (verdict > VERDICT_DROP || verdict == VERDICT_QUEUED)
		return (union step){ .action = ACTION_DROP };
	return (union step){ .action = packet->action, .reinject = packet->awaited };
}
