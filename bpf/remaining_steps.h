/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How every program ends: what its first part asks for is done, and the hook gets its action. */
#pragma once

#include "icmp_reply.h"
#include "slow_path.h"

static __always_inline int run_remaining_steps(context *ctx, enum hook hook, __u64 first)
{
	struct step step = unpack_step(first);

	if (step.next == NEXT_SLOW_PATH)
		step = unpack_step(handle_slow_path(ctx, hook));
	if (step.reinject && reinject_fragments(ctx, L2_BYTES || step.action == ACTION_PASS ? 0 : ETH_HLEN))
		return ACTION_DROP;
	if (step.next == NEXT_ICMP_REPLY)
		return send_icmp_reply(ctx, hook, pack_step(step));
	return step.action;
}
