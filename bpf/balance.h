/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Load balancing packet by packet: known connections follow their entry, new ones to a service get a backend. */
#pragma once

#include "fragment.h"
#include "nat.h"
#include "policy.h"
#include "unserved.h"

/* The service that a new connection is for. `local` is what lives at its destination, or NULL: a pod's address
 * never carries a service, a node's carries NodePorts (some of its addresses, where a setting says so) and ports of
 * pods. */
static __always_inline struct service *lookup_service(const struct packet *packet, const struct local_address *local)
{
	const struct tuple *tuple = &packet->tuple;
	struct service *service;

	if (local && local->kind == LOCAL_POD)
		return NULL;
	service = lookup_frontend(&tuple->destination, tuple->destination_port, tuple->protocol);
	if (service || !local)
		return service;
	return lookup_answering_port(local, &tuple->destination, tuple->destination_port, tuple->protocol);
}

/* Makes the packet what its connection's entry says. */
static __always_inline enum verdict translate(context *ctx, struct packet *packet, const struct flow *flow, __u64 now)
{
	struct tuple target = flow_target(flow, packet->tuple.protocol);

	if (packet->fragment) {
		/* SCTP's checksum covers pieces that are not here. */
		if (packet->tuple.protocol == IPPROTO_SCTP && !same_ports(&packet->tuple, &target))
			return VERDICT_DROP_FRAGMENT;
		if (note_first_fragment(packet, DATAGRAM_TRANSLATED, now))
			return VERDICT_DROP_FRAGMENT;
	}
	packet->to_self = (flow->flags & FLOW_FLAG_FROM_SELF) && flow->direction == FLOW_REPLY;
	return rewrite_packet(ctx, packet, &target) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}

static __always_inline enum verdict open_and_translate(context *ctx, struct packet *packet,
						       const struct backend *backend, enum open_mode mode,
						       struct flow *forward, __u64 now)
{
	enum verdict verdict = open_flow(ctx, packet, backend, mode, forward, now);

	return verdict == VERDICT_PASS ? translate(ctx, packet, forward, now) : verdict;
}

/* A connection that is neither known nor a service's keeps its addresses, but gets another source port where its replies
 * would be taken for those of a translated connection. */
static __always_inline enum verdict keep_apart(context *ctx, enum hook hook, struct packet *packet, enum open_mode mode,
					       __u64 now)
{
	struct backend itself = { .address = packet->tuple.destination, .port = packet->tuple.destination_port };
	struct flow forward = {};

	if (!may_be_new(packet) || !reply_is_taken(packet, now)) {
		try_previous(ctx, hook, PREVIOUS_KNOWN);
		return VERDICT_PASS;
	}
	return open_and_translate(ctx, packet, &itself, mode, &forward, now);
}

static __always_inline enum client_kind client_kind(enum hook hook, const struct packet *packet)
{
	if (hook == HOOK_FROM_POD)
		return kind_of_pod(&packet->tuple.source);
	return hook == HOOK_FROM_UPLINK ? CLIENT_OUTSIDE : CLIENT_NODE;
}

/* A new connection to a service. `local` is afterwards what lives at its backend's address. */
static __always_inline enum verdict balance_new(context *ctx, enum hook hook, struct packet *packet,
						const struct service *service, struct local_address **local, __u64 now)
{
	struct client client = { packet->tuple.source, client_kind(hook, packet), hook };
	struct flow forward = { .service = service->id, .flags = hook == HOOK_TO_SELF ? FLOW_FLAG_FROM_SELF : 0 };
	struct decision decision;
	struct backend *backend = NULL;
	enum open_mode mode = OPEN_DNAT;
	enum verdict verdict;

	if (!may_be_new(packet))
		try_previous(ctx, hook, PREVIOUS_KNOWN);
	if (hook == HOOK_FROM_UPLINK && !config.external_cluster_ip && is_internal(service))
		return VERDICT_DROP_EXTERNAL_CLUSTER_IP;
	verdict =
		judge(service, &client, &client.address, bpf_get_prandom_u32(), &decision, &backend, &forward.backend);
	if (!backend)
		return verdict;
	*local = lookup_local_address(&backend->address);
	/* The node itself would take its own address for a forged one. */
	if (decision.masquerade && (!*local || (*local)->kind == LOCAL_POD))
		mode = *local ? OPEN_MASQUERADE : OPEN_MASQUERADE_OUT;
	return open_and_translate(ctx, packet, backend, mode, &forward, now);
}

static __always_inline enum verdict follow_flow(context *ctx, struct packet *packet, struct flow *flow, __u64 now)
{
	touch_flow(flow, packet, now);
	return translate(ctx, packet, flow, now);
}

/* Translates a packet with ports if it is a known connection's or a service's. Returns VERDICT_PASS (translated or not) or a
 * drop; `local` is then what lives at the packet's destination, NULL if that is elsewhere. */
static __always_inline enum verdict balance_packet(context *ctx, enum hook hook, struct packet *packet,
						   struct local_address **local)
{
	struct service *service;
	enum verdict verdict;
	struct flow *flow;
	__u64 now;

	now = now_ns();
	flow = lookup_flow(packet, now);
	if (flow) {
		verdict = follow_flow(ctx, packet, flow, now);
		*local = lookup_local_address(&packet->tuple.destination);
		return verdict;
	}
	try_previous(ctx, hook, PREVIOUS_ALL);
	*local = lookup_local_address(&packet->tuple.destination);
	service = lookup_service(packet, *local);
	if (service)
		return balance_new(ctx, hook, packet, service, local, now);
	if (!*local && (hook == HOOK_FROM_UPLINK || may_be_new(packet))) {
		verdict = without_service(ctx, hook, packet);
		if (verdict != VERDICT_PASS)
			return verdict;
	}
	if (packet->fragment) {
		note_plain_fragment(hook, packet, *local, now);
		try_previous(ctx, hook, PREVIOUS_KNOWN);
		return VERDICT_PASS;
	}
	return keep_apart(ctx, hook, packet, OPEN_DNAT, now);
}

/* The service that the node itself dials. */
static __always_inline struct service *lookup_own_service(enum hook hook, const struct packet *packet)
{
	const struct tuple *tuple = &packet->tuple;

	if (hook == HOOK_TO_SELF)
		return lookup_dialled(&tuple->destination, tuple->destination_port, tuple->protocol);
	return lookup_service(packet, NULL);
}

/* What the node itself sends, with ports: replies of a backend in its network get their service address back, connections to
 * services that no socket call has translated get a backend, and others are kept apart from those that are translated
 * to the node's address. `local` as in balance_packet, of packets that got another destination. */
static __always_inline enum verdict balance_node(context *ctx, enum hook hook, struct packet *packet,
						 struct local_address **local)
{
	struct flow *flow;
	__u64 now;

	now = now_ns();
	flow = lookup_flow(packet, now);
	if (flow && (hook != HOOK_TO_POD || flow->direction == FLOW_REPLY || !flow->service)) {
		enum verdict verdict = follow_flow(ctx, packet, flow, now);

		if (packet->moved)
			*local = lookup_local_address(&packet->tuple.destination);
		return verdict;
	}
	if (flow)
		return VERDICT_PASS;
	try_previous(ctx, hook, PREVIOUS_ALL);
	if (hook != HOOK_TO_POD && may_be_new(packet)) {
		struct service *service = lookup_own_service(hook, packet);
		enum verdict verdict;

		if (service)
			return balance_new(ctx, hook, packet, service, local, now);
		verdict = without_service(ctx, hook, packet);
		if (verdict != VERDICT_PASS)
			return verdict;
	}
	if (packet->fragment)
		note_plain_fragment(hook, packet, NULL, now);
	return keep_apart(ctx, hook, packet, OPEN_FROM_NODE, now);
}
