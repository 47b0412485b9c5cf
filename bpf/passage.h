/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Legacy host routing: packets that our programs would redirect go through the node's own stack. As netfilter's NAT
 * does, they get their destination where they arrive and their source where they leave: netfilter and the routes see
 * client and backend themselves in between, and the same two in both directions. What is left to do waits in
 * `passages` for the hook of the device that the packet leaves by (departure.h). */
#pragma once

#include "hook.h"
#include "maps.h"
#include "rewrite.h"

/* Notes that travel with a packet. Other programs' notes (the class of a filter) are taken for none of ours. */
#define NOTE_COMPLETE 0x4b50 /* it leaves as it is */
#define NOTE_PLACE 0x8000 /* the other bits are a place in `passages` */

static __always_inline void send_note(context *ctx, __u32 note)
{
	if (config.tracing)
		write_mark(ctx, note); /* test runs keep no other */
	else
		write_note(ctx, note);
}

static __always_inline bool may_go_through_stack(const struct packet *packet)
{
	return config.passages_a_cpu && !packet->from_node;
}

/* Makes the packet `target`; where the stack may have to forward it, only its destination changes, and `scratch` keeps
 * the rest. Both ports are those that the backend knows, there and back: by them netfilter tells two connections of one
 * port of the client to one backend apart. Returns as rewrite_packet does. */
static __always_inline int begin_translation(context *ctx, struct packet *packet, const struct tuple *target,
					     bool reply)
{
	struct scratch *scratch;
	struct passage *passage;

	if (!may_go_through_stack(packet))
		return rewrite_packet(ctx, packet, target);
	scratch = this_scratch();
	if (!scratch)
		return -1;
	passage = &scratch->passage;
	passage->target = *target;
	passage->seen = *target;
	passage->seen.source = packet->tuple.source;
	if (reply) {
		passage->seen.source_port = packet->tuple.source_port;
		passage->seen.destination_port = packet->tuple.destination_port;
	}
	passage->quoted.protocol = 0;
	packet->in_passage = true;
	return rewrite_packet(ctx, packet, &passage->seen);
}

/* Gives a packet that stays on the node its source. */
static __always_inline int complete_translation(context *ctx, struct packet *packet)
{
	struct scratch *scratch = this_scratch();

	return !scratch || rewrite_packet(ctx, packet, &scratch->passage.target);
}

/* Sends the packet up into the stack, which forwards it. Each CPU has places of its own, in turn: a packet leaves
 * before so many others have come. */
static __always_inline void pass_to_stack(context *ctx, const struct packet *packet)
{
	struct scratch *scratch = this_scratch();
	__u32 place;

	if (!packet->in_passage || !scratch) {
		send_note(ctx, NOTE_COMPLETE);
		return;
	}
	place = bpf_get_smp_processor_id() * config.passages_a_cpu + scratch->passages++ % config.passages_a_cpu;
	bpf_map_update_elem(&passages, &place, &scratch->passage, BPF_ANY);
	send_note(ctx, NOTE_PLACE | place);
}
