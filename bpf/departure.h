/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Legacy host routing: what the node's stack has forwarded leaves by a device, and gets its source (passage.h). */
#pragma once

#include "finish.h"
#include "icmp_translate.h"

#define NOT_FORWARDED (-1)

static __always_inline __u32 take_note(context *ctx)
{
	__u32 note = config.tracing ? read_mark(ctx) : read_note(ctx);

	send_note(ctx, 0); /* a device below this one has a hook, too */
	return note;
}

/* Is it still the packet that went into the stack? Somebody's NAT may have changed it there, or so many packets have
 * come since that another one has its place: then it is one that the stack itself sends. */
static __always_inline bool is_same_packet(const struct passage *passage, const struct packet *packet)
{
	const struct tuple *seen = &passage->seen, *now = &packet->tuple;

	return same_address(&seen->source, &now->source) && same_address(&seen->destination, &now->destination) &&
	       (!packet->has_ports || (both_ports(seen) == both_ports(now) && seen->protocol == now->protocol));
}

/* Gives what an ICMP error quotes its last form; its destination is all that is left to change. */
static __always_inline int complete_quoted(context *ctx, const struct packet *packet, const struct passage *passage)
{
	struct scratch *scratch = this_scratch();

	if (!scratch || !parse_quoted(ctx, packet, &scratch->icmp))
		return -1;
	scratch->icmp.sent = passage->quoted;
	return rewrite_quoted(ctx, packet, &scratch->icmp);
}

/* Completes a packet that the stack has forwarded for our programs. Returns the hook's action, or NOT_FORWARDED where
 * the packet is the stack's own. The function is global, so that the verifier goes through it once. */
__noinline int end_passage(context *ctx, __u32 hook)
{
	__u32 note = take_note(ctx), place = note & ~NOTE_PLACE;
	struct packet packet = { .from_node = true };
	struct passage *passage;
	struct cursor cursor;

	if (note == NOTE_COMPLETE)
		return ACTION_PASS;
	if (!(note & NOTE_PLACE))
		return NOT_FORWARDED;
	passage = bpf_map_lookup_elem(&passages, &place);
	cursor = read_headers(ctx);
	if (!passage || parse_packet(ctx, &cursor, &packet) != PARSE_IP || !is_same_packet(passage, &packet))
		return NOT_FORWARDED;
	if (passage->quoted.protocol
		    ? complete_quoted(ctx, &packet, passage) || rewrite_addresses(ctx, &packet, &passage->target)
		    : rewrite_packet(ctx, &packet, &passage->target))
		return finish(ctx, hook, &packet, VERDICT_DROP_REWRITE).action;
	return ACTION_PASS;
}
