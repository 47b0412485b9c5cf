/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Load balancing packet by packet: known connections follow their entry, new ones to a service get a backend. */
#pragma once

#include "nat.h"

/* The service that a new connection is for. `endpoint` is what lives at its destination, or NULL: a pod's address
 * never carries a service, a node's carries NodePorts. */
static __always_inline struct service *lookup_service(const struct packet *packet, const struct endpoint *endpoint)
{
	const struct tuple *tuple = &packet->tuple;
	struct service *service;

	if (endpoint && endpoint->kind == ENDPOINT_POD)
		return NULL;
	service = lookup_frontend(&tuple->destination, tuple->destination_port, tuple->protocol);
	if (!service && endpoint)
		service = lookup_node_port(&tuple->destination, tuple->destination_port, tuple->protocol);
	return service;
}

/* Does the reply have to come back through this node by force? From outside, a pod of another node would answer
 * the client directly, with its own address. From a pod, only a backend that is the client itself would.
 * `endpoint` is what lives at the backend's address. */
static __always_inline bool needs_masquerade(enum hook hook, const struct packet *packet, const struct backend *backend,
					     const struct endpoint *endpoint)
{
	if (hook == HOOK_FROM_POD)
		return same_address(&backend->address, &packet->tuple.source);
	return !endpoint;
}

static __always_inline enum verdict balance_new(context *ctx, enum hook hook, struct packet *packet,
						const struct service *service, struct endpoint **endpoint, __u64 now)
{
	struct flow forward = { .service = service->id };
	struct backend *backend;
	enum verdict verdict;
	struct tuple target;
	bool masquerade;

	if (hook == HOOK_FROM_UPLINK && service->flags == SERVICE_CLUSTER_IP && !config.external_cluster_ip)
		return VERDICT_DROP_EXTERNAL_CLUSTER_IP;
	if (packet->fragment)
		return VERDICT_DROP_FRAGMENT;
	backend = select_backend(service, bpf_get_prandom_u32(), &forward.backend);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	*endpoint = lookup_endpoint(&backend->address);
	masquerade = needs_masquerade(hook, packet, backend, *endpoint);
	verdict = open_flow(ctx, packet, backend, masquerade, &forward, now);
	if (verdict != VERDICT_PASS)
		return verdict;
	target = flow_target(&forward, packet->tuple.protocol);
	return rewrite_packet(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

static __always_inline enum verdict follow_flow(context *ctx, struct packet *packet, struct flow *flow, __u64 now)
{
	struct tuple target = flow_target(flow, packet->tuple.protocol);

	if (packet->fragment)
		return VERDICT_DROP_FRAGMENT;
	touch_flow(flow, packet, now);
	return rewrite_packet(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

/* Translates the packet if it is a known connection's or a service's. Returns VERDICT_PASS (translated or not) or a
 * drop; `endpoint` is then what lives at the packet's destination, NULL if that is elsewhere. */
static __always_inline enum verdict balance_packet(context *ctx, enum hook hook, struct packet *packet,
						   struct endpoint **endpoint)
{
	struct service *service;
	enum verdict verdict;
	struct flow *flow;
	__u64 now;

	if (!packet->has_ports) {
		*endpoint = lookup_endpoint(&packet->tuple.destination);
		return VERDICT_PASS;
	}
	now = now_ns();
	flow = lookup_flow(packet, now);
	if (flow) {
		verdict = follow_flow(ctx, packet, flow, now);
		*endpoint = lookup_endpoint(&packet->tuple.destination);
		return verdict;
	}
	*endpoint = lookup_endpoint(&packet->tuple.destination);
	service = lookup_service(packet, *endpoint);
	if (!service) {
		if (is_new_connection(packet))
			replies_are_claimed(packet, now);
		return VERDICT_PASS;
	}
	return balance_new(ctx, hook, packet, service, endpoint, now);
}

/* May replies to this packet of the node's own meet a key that SNAT holds? */
static __always_inline bool shares_ports_with_snat(const struct packet *packet)
{
	struct address node = packet->ethertype == bpf_htons(ETH_P_IP) ? config.node_ipv4 : config.node_ipv6;

	return (is_new_connection(packet) || packet->tuple.protocol == IPPROTO_UDP) &&
	       same_address(&packet->tuple.source, &node);
}

/* Gives a connection of the node's own another source port, since a translated one holds its reply key. */
static __always_inline enum verdict change_port(context *ctx, struct packet *packet, __u64 now)
{
	const struct backend peer = {
		.address = packet->tuple.destination,
		.port = packet->tuple.destination_port,
	};
	struct flow forward = {};
	enum verdict verdict = open_flow(ctx, packet, &peer, true, &forward, now);
	struct tuple target;

	if (verdict != VERDICT_PASS)
		return verdict;
	target = flow_target(&forward, packet->tuple.protocol);
	return rewrite_packet(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

/* What the node's own stack sends: replies get their service address back, and no new connection takes the place
 * of one that SNAT has given the same port. */
static __always_inline enum verdict balance_own(context *ctx, struct packet *packet)
{
	struct flow *flow;
	__u64 now;

	if (!packet->has_ports || packet->fragment)
		return VERDICT_PASS;
	now = now_ns();
	flow = lookup_flow(packet, now);
	if (flow)
		return follow_flow(ctx, packet, flow, now);
	if (shares_ports_with_snat(packet) && replies_are_claimed(packet, now))
		return change_port(ctx, packet, now);
	return VERDICT_PASS;
}
