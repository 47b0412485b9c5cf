/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets without ports: ICMP, later fragments, other protocols. They are rare, so a part of the program, with its
 * own stack, is theirs alone. */
#pragma once

#include "finish.h"
#include "fragment.h"
#include "icmp_translate.h"
#include "no_service.h"
#include "sender.h"

/* Translates a later fragment as the first fragment of its datagram was. Returns VERDICT_PASS with the packet
 * unchanged where the first fragment was not translated, or has not come. */
static __always_inline enum verdict follow_first_fragment(context *ctx, struct packet *packet,
							  const struct datagram_ports *first, __u64 now)
{
	struct tuple target;
	struct flow *flow;

	if (!first || first->state != DATAGRAM_TRANSLATED)
		return VERDICT_PASS;
	packet->tuple.source_port = first->source_port;
	packet->tuple.destination_port = first->destination_port;
	packet->tuple.protocol = first->protocol;
	flow = find_flow(&packet->tuple, now, false);
	if (!flow)
		return VERDICT_DROP_FRAGMENT;
	target = flow_target(flow, packet->tuple.protocol);
	return begin_translation(ctx, packet, &target, flow->direction == FLOW_REPLY) ? VERDICT_DROP_REWRITE
										      : VERDICT_PASS;
}

/* Judges a packet that was not translated and whose destination is not on this node. */
static __always_inline enum verdict judge_without_ports(context *ctx, enum hook hook, const struct packet *packet)
{
	if (packet->later_fragment && lookup_frontend(&packet->tuple.destination, 0, 0))
		return VERDICT_DROP_FRAGMENT;
	return judge_no_service(ctx, hook, packet);
}

/* Handles a packet without ports. Returns a step. */
__noinline __u64 handle_slow_path(context *ctx, __u32 hook)
{
	struct packet packet = { .from_node = sent_by_node(hook) };
	struct cursor cursor = read_headers(ctx);
	struct datagram_ports *first = NULL;
	struct local_address *local = NULL;
	enum verdict verdict = VERDICT_PASS;
	__u64 now = now_ns();

	if (parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return finish(ctx, hook, &packet, VERDICT_PASS).bits;
	if (has_other_source(ctx, hook, &packet))
		verdict = judge_other_source(ctx, &packet);
	else if (is_ingress(hook) && is_foreign(hook, &packet))
		verdict = VERDICT_FOREIGN;
	if (verdict != VERDICT_PASS)
		return finish(ctx, hook, &packet, verdict).bits;
	if (packet.later_fragment) {
		first = lookup_datagram(&packet, now);
		verdict = follow_first_fragment(ctx, &packet, first, now);
	} else if (!packet.fragment && has_error_type(ctx, &packet)) {
		verdict = translate_icmp_error(ctx, &packet);
	}
	if (verdict != VERDICT_PASS || enters_pod(hook))
		return finish(ctx, hook, &packet, verdict).bits;
	local = lookup_local_address(&packet.tuple.destination);
	if (packet.later_fragment) {
		if (is_awaited(first) && may_be_translated(hook, &packet, local) &&
		    queue_fragment(ctx, &packet, first, now))
			return finish(ctx, hook, &packet, VERDICT_QUEUED).bits;
	} else if (packet.fragment) {
		note_plain_fragment(hook, &packet, local, now);
	}
	if (!local && !packet.translated)
		verdict = judge_without_ports(ctx, hook, &packet);
	if (verdict == VERDICT_PASS)
		verdict = forward(ctx, hook, &packet, local);
	return finish(ctx, hook, &packet, verdict).bits;
}
