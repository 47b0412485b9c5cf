// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The same code for a tc hook and for an XDP hook: the Makefile compiles this file once with each context. It is
 * loaded by tests/packet/test_seam.py only and never attached. */
#include "conntrack.h"
#include "icmp_reply.h"
#include "rewrite.h"
#include "route.h"

/* Parses a packet, looks up its flow, and makes the packet what the entry says, one hop further and back. */
SEC(CONTEXT_SECTION)
int rewrite(context *ctx)
{
	__u8 macs[2 * ETH_ALEN];
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};
	struct tuple target;
	struct flow *flow;
	__u64 now = now_ns();

	if (parse_packet(ctx, &cursor, &packet) != PARSE_IP || !packet.has_ports)
		return ACTION_DROP;
	flow = lookup_flow(&packet, now);
	if (!flow)
		return ACTION_PASS;
	refresh_flow(ctx, flow, &packet, now);
	target = flow_target(flow, packet.tuple.protocol);
	if (load_bytes(ctx, 0, macs, sizeof(macs)) || rewrite_packet(ctx, &packet, &target) ||
	    decrement_ttl(ctx, &packet) || write_macs(ctx, packet.ethertype, macs + ETH_ALEN, macs))
		return ACTION_DROP;
	return ACTION_PASS;
}

/* Makes a packet the ICMP error about itself: the packet is cut, gets new headers, and is sent back. */
SEC(CONTEXT_SECTION)
int refuse(context *ctx)
{
	struct step step = { .next = NEXT_ICMP_REPLY, .verdict = VERDICT_REJECT_NO_BACKEND };

	return send_icmp_reply(ctx, HOOK_FROM_UPLINK, pack_step(step));
}

/* Returns the abilities that functions of the context show (bits of enum ability), and in the upper half those that
 * it names. */
SEC(CONTEXT_SECTION)
int abilities(context *ctx)
{
	__u8 nowhere[16] = {};
	int shown = 0;

	write_mark(ctx, MARK_FORWARDED);
	if (read_mark(ctx) == MARK_FORWARDED)
		shown |= ABILITY_MARK;
	if (segment_bytes(ctx))
		shown |= ABILITY_SEGMENTS;
	if (redirect_in(LOOPBACK_IFINDEX) != -EOPNOTSUPP)
		shown |= ABILITY_REDIRECT_IN;
	if (redirect_to_neighbour(LOOPBACK_IFINDEX, AF_INET, nowhere) != -EOPNOTSUPP)
		shown |= ABILITY_NEIGHBOUR;
	if (replace_packet(ctx, 0, nowhere, 0, 0) != -EOPNOTSUPP)
		shown |= ABILITY_COPY;
	return CONTEXT_ABILITIES << 16 | shown;
}

char _license[] SEC("license") = "Dual BSD/GPL";
