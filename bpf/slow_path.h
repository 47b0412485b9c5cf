/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets without ports: ICMP, later fragments, other protocols. Rare, so they have a part of the program to themselves. */
#pragma once

#include "fragment.h"
#include "icmp.h"
#include "unserved.h"

/* A later piece of a datagram. Returns VERDICT_PASS with the packet as it was where its first piece was not translated, or
 * has not come. */
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
	flow = bpf_map_lookup_elem(&flows, &packet->tuple);
	if (!flow || flow->expires_ns <= now)
		return VERDICT_DROP_FRAGMENT;
	target = flow_target(flow, packet->tuple.protocol);
	return rewrite_addresses(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

/* Does the service's address answer echo requests of this hook's clients? */
static __always_inline bool answers_echo(context *ctx, enum hook hook, const struct packet *packet)
{
	struct service *address;

	if (!config.answer_ping || !is_echo_request(ctx, packet))
		return false;
	address = lookup_frontend(&packet->tuple.destination, 0, 0);
	return address && (hook != HOOK_FROM_UPLINK || config.external_cluster_ip || !is_internal(address));
}

/* Nothing here has the packet's destination, and nothing has translated it. */
static __always_inline enum verdict to_elsewhere(context *ctx, enum hook hook, const struct packet *packet)
{
	if (answers_echo(ctx, hook, packet))
		return VERDICT_ANSWER_ECHO;
	if (packet->later_fragment && lookup_frontend(&packet->tuple.destination, 0, 0))
		return VERDICT_DROP_FRAGMENT;
	return without_service(ctx, hook, packet);
}

/* The part of each program for packets without ports. */
__noinline int packet_without_ports(struct __sk_buff *ctx, __u32 hook)
{
	struct packet packet = { .own = hook == HOOK_TO_UPLINK };
	struct cursor cursor = read_context(ctx);
	struct datagram_ports *first = NULL;
	struct local_address *local = NULL;
	enum verdict verdict = VERDICT_PASS;
	__u64 now = now_ns();

	if (parse_packet(ctx, &cursor, ctx->protocol, &packet) != PARSE_IP)
		return finish(ctx, hook, &packet, VERDICT_PASS);
	if (packet.later_fragment) {
		first = lookup_datagram(&packet, now);
		verdict = follow_first_fragment(ctx, &packet, first, now);
	} else if (is_icmp_error(ctx, &packet)) {
		verdict = translate_error(ctx, &packet);
	}
	if (verdict != VERDICT_PASS || hook == HOOK_TO_POD)
		return finish(ctx, hook, &packet, verdict);
	local = lookup_local_address(&packet.tuple.destination);
	if (packet.later_fragment) {
		if (is_awaited(first) && may_be_translated(hook, &packet, local) &&
		    queue_fragment(ctx, &packet, first, now))
			return finish(ctx, hook, &packet, VERDICT_QUEUED);
	} else if (packet.fragment) {
		note_plain_fragment(hook, &packet, local, now);
	}
	if (!local && !packet.translated)
		verdict = to_elsewhere(ctx, hook, &packet);
	if (verdict == VERDICT_PASS)
		verdict = forward(ctx, hook, &packet, local);
	return finish(ctx, hook, &packet, verdict);
}

/* What a program returns, once the part for packets with ports has returned `step`. */
static __always_inline int complete(context *ctx, enum hook hook, __u32 step)
{
	if (step == STEP_WITHOUT_PORTS)
		step = packet_without_ports(ctx, hook);
	if (step & STEP_RELEASE) {
		step &= ~STEP_RELEASE;
		if (reinject_fragments(ctx))
			return TC_ACT_SHOT;
	}
	return step >= STEP_ANSWER ? answer(ctx, hook, step) : step;
}
