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

static __always_inline enum verdict open_and_rewrite(context *ctx, struct packet *packet, const struct backend *backend,
						     enum open_mode mode, struct flow *forward, __u64 now)
{
	enum verdict verdict = open_flow(ctx, packet, backend, mode, forward, now);
	struct tuple target;

	if (verdict != VERDICT_PASS)
		return verdict;
	target = flow_target(forward, packet->tuple.protocol);
	return rewrite_packet(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

/* A new connection that is no service's keeps its addresses, but gets another source port where its replies would be
 * taken for those of a translated connection. */
static __always_inline enum verdict keep_apart(context *ctx, struct packet *packet, enum open_mode mode, __u64 now)
{
	struct backend itself = { .address = packet->tuple.destination, .port = packet->tuple.destination_port };
	struct flow forward = {};

	if (packet->fragment || !reply_is_taken(packet, now))
		return VERDICT_PASS;
	return open_and_rewrite(ctx, packet, &itself, mode, &forward, now);
}

static __always_inline enum verdict balance_new(context *ctx, enum hook hook, struct packet *packet,
						const struct service *service, struct endpoint **endpoint, __u64 now)
{
	struct flow forward = { .service = service->id };
	struct backend *backend;
	enum open_mode mode;

	if (hook == HOOK_FROM_UPLINK && service->flags == SERVICE_CLUSTER_IP && !config.external_cluster_ip)
		return VERDICT_DROP_EXTERNAL_CLUSTER_IP;
	if (packet->fragment)
		return VERDICT_DROP_FRAGMENT;
	backend = select_backend(service, bpf_get_prandom_u32(), &forward.backend);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
	*endpoint = lookup_endpoint(&backend->address);
	mode = needs_masquerade(hook, packet, backend, *endpoint) ? OPEN_MASQUERADE : OPEN_DNAT;
	return open_and_rewrite(ctx, packet, backend, mode, &forward, now);
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
	if (!service)
		return is_new_connection(packet) ? keep_apart(ctx, packet, OPEN_DNAT, now) : VERDICT_PASS;
	return balance_new(ctx, hook, packet, service, endpoint, now);
}

/* What the node itself sends: replies of a backend in its network get their service address back, and its own
 * connections are kept apart from those that are translated to its address. */
static __always_inline enum verdict balance_node(context *ctx, struct packet *packet)
{
	struct flow *flow;
	__u64 now;

	if (!packet->has_ports || packet->fragment)
		return VERDICT_PASS;
	now = now_ns();
	flow = lookup_flow(packet, now);
	if (flow)
		return flow->direction == FLOW_REPLY || !flow->service ? follow_flow(ctx, packet, flow, now)
								       : VERDICT_PASS;
	if (packet->tuple.protocol == IPPROTO_UDP || is_new_connection(packet))
		return keep_apart(ctx, packet, OPEN_FROM_NODE, now);
	return VERDICT_PASS;
}
