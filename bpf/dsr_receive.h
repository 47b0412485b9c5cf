/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The node with a backend: whose option it obeys, and how it answers the client from the frontend. */
#pragma once

#include "balance.h"
#include "dsr_option.h"
#include "finish.h"
#include "nat.h"
#include "route.h"
#include "tunnel.h"

/* Can another node have put the option on? It names a frontend in DSR mode, which admits the client, and the client is
 * neither a node nor a pod of one: a forged option gets nothing that the frontend would not give. */
static __always_inline bool is_obeyed(const struct tuple *tuple, const struct dsr_setup *dsr)
{
	struct service *service = lookup_frontend(&dsr->frontend, dsr->port, tuple->protocol);
	struct dsr_peer *peer;

	if (!service) {
		peer = lookup_peer(&dsr->frontend);
		if (peer && peer->is_node)
			service = lookup_node_port(&dsr->frontend, dsr->port, tuple->protocol);
	}
	return service && (service->flags & SERVICE_DSR) && admits_source(service, &tuple->source) &&
	       !lookup_peer(&tuple->source);
}

/* Returns the entry of the packet as it arrives if that is of this frontend, or NULL. */
static __always_inline struct flow *find_connection(const struct packet *packet, const struct dsr_setup *dsr, __u64 now)
{
	struct flow *flow = lookup_flow(packet, now), *reply;
	struct tuple key;

	if (!flow)
		return NULL;
	key = partner_key(flow, packet->tuple.protocol);
	reply = find_flow(&key, now, packet->tcp_flags & TCP_SYN);
	return reply && reply->source_port == dsr->port && same_address(&reply->source, &dsr->frontend) ? flow : NULL;
}

/* Errors about answers need what the client has sent (icmp_reply.h): that entry gets the life of a connection. It is
 * the first one to be evicted. */
static __always_inline void keep_sent(struct flow *sent, const struct tuple *key, __u64 now)
{
	__u64 expires_ns = sent->expires_ns;

	if (key->protocol != IPPROTO_TCP)
		return;
	sent->expires_ns = now + config.tcp_timeout_ns;
	note_transient(key, sent);
	bpf_map_update_elem(&transient_flows, key, sent, BPF_ANY);
	sent->expires_ns = expires_ns;
}

/* Does the entry at the frontend lead where the packet goes? The client may have had another backend there. The entry
 * may also be one of a connection that this node has balanced to its own pod, before the network moved it. */
static __always_inline bool leads_to(const struct flow *sent, const struct packet *packet, const struct tuple *arrived)
{
	return !(sent->flags & FLOW_FLAG_DSR) && sent->destination_port == arrived->destination_port &&
	       same_address(&sent->destination, &arrived->destination) &&
	       !(is_new_connection(packet) && sent->state == FLOW_CLOSED);
}

/* Opens the connection as if the client had sent to the frontend here. */
static __always_inline enum verdict open_served(context *ctx, struct scratch *scratch, struct packet *packet, __u64 now)
{
	struct tuple *arrived = &scratch->dsr.arrived;
	struct new_flow new = {
		.backend_address = &arrived->destination,
		.backend_port = arrived->destination_port,
		.mode = OPEN_DNAT,
		.flags = FLOW_FLAG_SERVED,
	};
	enum verdict verdict;

	if (!is_obeyed(arrived, &scratch->dsr))
		return VERDICT_DROP_DSR;
	verdict = open_flow(ctx, scratch, packet, &new, now);
	if (verdict == VERDICT_PASS)
		keep_sent(&scratch->nat.forward, &packet->tuple, now);
	return verdict;
}

/* Opens the connection, and again as packets arrive: those without the option follow that entry. The client may have
 * another connection like it, through another frontend or to the backend itself; then this one has another port towards
 * the backend, and only packets with the option can follow it. */
static __always_inline enum verdict receive_new(context *ctx, struct scratch *scratch, struct packet *packet, __u64 now)
{
	struct tuple *arrived = &scratch->dsr.arrived;
	enum verdict verdict;
	struct flow *flow;

	*arrived = packet->tuple;
	packet->tuple.destination = scratch->dsr.frontend;
	packet->tuple.destination_port = scratch->dsr.port;
	flow = find_flow(&packet->tuple, now, packet->tcp_flags & TCP_SYN);
	if (!flow || !leads_to(flow, packet, arrived) || !refresh_flow(ctx, flow, packet, now)) {
		scratch->nat.reopens = flow != NULL;
		verdict = open_served(ctx, scratch, packet, now);
		if (verdict != VERDICT_PASS)
			return verdict;
		flow = &scratch->nat.forward;
	}
	packet->tuple = *arrived;
	if (flow->source_port != packet->tuple.source_port)
		return packet->tuple.protocol == IPPROTO_TCP ? VERDICT_DROP_DSR_CLASH
							     : translate(ctx, packet, flow, now);
	scratch->nat.forward = *flow;
	scratch->nat.forward.flags |= FLOW_FLAG_OPENING; /* of TCP, it begins in `transient_flows` */
	scratch->nat.reopens = true;
	verdict = insert_forward(&scratch->nat, packet);
	return verdict == VERDICT_PASS ? translate(ctx, packet, &scratch->nat.forward, now) : verdict;
}

/* A known connection goes on, whatever its frontend is by now. */
static __always_inline enum verdict receive_packet(context *ctx, struct scratch *scratch, struct packet *packet)
{
	__u64 now = now_ns();
	struct flow *flow = find_connection(packet, &scratch->dsr, now);

	if (flow && refresh_flow(ctx, flow, packet, now))
		return translate(ctx, packet, flow, now);
	return receive_new(ctx, scratch, packet, now);
}

/* Handles a packet with the option, or one that was `tunnelled` with it. Returns a step. A port of 0 names no frontend:
 * it tells that the option arrives. */
__noinline __u64 receive_dsr(context *ctx, __u32 hook, bool tunnelled)
{
	struct scratch *scratch = this_scratch();
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};
	struct local_address *local;
	enum verdict verdict;

	if (!config.dsr || !scratch || parse_packet(ctx, &cursor, &packet) != PARSE_IP ||
	    (!tunnelled && (!packet.has_ports || read_frontend(ctx, &packet, &scratch->dsr))))
		return finish(ctx, hook, &packet, VERDICT_DROP_MALFORMED).bits;
	local = lookup_local_address(&packet.tuple.destination);
	if (tunnelled && (!local || !is_carried(&packet, &scratch->dsr)))
		return finish(ctx, hook, &packet, local ? VERDICT_DROP_DSR_TUNNEL : VERDICT_DROP_NO_ROUTE).bits;
	if (!packet.has_ports)
		return (union step){ .next = NEXT_SLOW_PATH }.bits;
	if (!local || !scratch->dsr.port)
		return finish(ctx, hook, &packet, VERDICT_PASS).bits;
	if (is_foreign(hook, &packet))
		return finish(ctx, hook, &packet, VERDICT_DROP_DSR).bits;
	if (!tunnelled && remove_option(ctx, &packet, &scratch->dsr))
		return finish(ctx, hook, &packet, VERDICT_DROP_REWRITE).bits;
	verdict = receive_packet(ctx, scratch, &packet);
	if (verdict == VERDICT_PASS && local->kind == LOCAL_POD)
		verdict = forward_to_pod(ctx, &packet, local);
	return finish(ctx, hook, &packet, verdict).bits;
}
