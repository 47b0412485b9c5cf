/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How a program begins, and how every program ends: what its first part asks for is done, and the hook gets its
 * action. */
#pragma once

#include "departure.h"
#include "dsr.h"
#include "icmp_reply.h"
#include "slow_path.h"

/* Has another hook sent the packet to this device? Then it is complete and was counted there. The mark goes. */
static __always_inline bool take_forwarded_mark(context *ctx)
{
	if (read_mark(ctx) != MARK_FORWARDED)
		return false;
	write_mark(ctx, 0);
	return true;
}

/* Is the packet complete, as another hook has sent it here? With legacy host routing the stack has, and its source may
 * be left to do. Returns the action of such a packet, or NOT_FORWARDED. */
static __always_inline int take_forwarded(context *ctx, enum hook hook)
{
	if (sent_by_node(hook) && take_forwarded_mark(ctx))
		return ACTION_PASS;
	if (!sent_by_node(hook) && config.passages_a_cpu)
		send_note(ctx, 0); /* until it is told otherwise, the packet is none that the stack forwards for us */
	if (!sent_by_node(hook))
		return NOT_FORWARDED;
	return config.passages_a_cpu ? end_passage(ctx, hook) : NOT_FORWARDED;
}

/* Defines a program. Its first part, `handle`, becomes a function that the verifier looks at by itself. Packets that
 * our own hooks have sent to a device pass its hook: they were counted there. */
#define PACKET_PROGRAM(name, hook, handle)                                                                             \
	__noinline __u64 handle_##name(context *ctx)                                                                   \
	{                                                                                                              \
		return handle(ctx, hook).bits;                                                                         \
	}                                                                                                              \
	SEC("tc")                                                                                                      \
	int name(context *ctx)                                                                                         \
	{                                                                                                              \
		int action = take_forwarded(ctx, hook);                                                                \
		union step step;                                                                                       \
                                                                                                                       \
		if (action != NOT_FORWARDED)                                                                           \
			return action;                                                                                 \
		step.bits = handle_##name(ctx);                                                                        \
		if (config.dsr && from_network(hook))                                                                  \
			step.bits = run_dsr(ctx, hook, step.bits);                                                     \
		if (step.next == NEXT_AGAIN)                                                                           \
			step.bits = handle_##name(ctx);                                                                \
		return run_remaining_steps(ctx, hook, step.bits);                                                      \
	}

static __always_inline int run_remaining_steps(context *ctx, enum hook hook, __u64 first)
{
	union step step = { .bits = first };

	if (step.next == NEXT_SLOW_PATH)
		step.bits = handle_slow_path(ctx, hook);
	if (step.reinject && reinject_fragments(ctx, L2_BYTES || step.action == ACTION_PASS ? 0 : ETH_HLEN))
		return ACTION_DROP;
	if (config.tunnel && from_network(hook) && step.next == NEXT_SEND_IN_TUNNEL)
		step.bits = send_in_tunnel(ctx, hook);
	if (step.next == NEXT_ICMP_REPLY)
		return send_icmp_reply(ctx, hook, step.bits);
	return step.action;
}
