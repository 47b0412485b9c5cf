/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Load balancing packet by packet: the packet of a known connection follows its entry, a new connection to a service
 * gets a backend. */
#pragma once

#include "fragment.h"
#include "masquerade.h"
#include "nat.h"
#include "no_service.h"
#include "policy.h"
#include "sender.h"

/* Returns the service that a new connection is for, or NULL. `local` is the entry of the destination, or NULL. A
 * pod's address never has a service; a node's has NodePorts (some of its addresses, where a setting says so) and
 * host ports of pods. */
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
		/* SCTP's checksum covers fragments that are not here. */
		if (packet->tuple.protocol == IPPROTO_SCTP && both_ports(&packet->tuple) != both_ports(&target))
			return VERDICT_DROP_FRAGMENT;
		if (note_first_fragment(packet, DATAGRAM_TRANSLATED, now))
			return VERDICT_DROP_FRAGMENT;
	}
	packet->returns_to_node = (flow->flags & FLOW_FLAG_FROM_SELF) && flow->direction == FLOW_REPLY;
	return begin_translation(ctx, packet, &target, flow->direction == FLOW_REPLY) ? VERDICT_DROP_REWRITE
										      : VERDICT_PASS;
}

static __always_inline enum verdict open_and_translate(context *ctx, struct packet *packet, const struct new_flow *new,
						       __u64 now)
{
	struct scratch *scratch = this_scratch();
	enum verdict verdict;

	if (!scratch)
		return VERDICT_DROP_NO_SNAT_PORT;
	verdict = open_flow(ctx, scratch, packet, new, now);
	return verdict == VERDICT_PASS ? translate(ctx, packet, &scratch->nat.forward, now) : verdict;
}

/* A connection that is neither known nor a service's keeps its addresses, but for a pod's to the outside. It gets
 * another source port where its replies would be taken for those of a translated connection. */
static __always_inline enum verdict avoid_port_clash(context *ctx, enum hook hook, struct packet *packet,
						     enum open_mode mode, __u64 now)
{
	struct new_flow new = {
		.backend_address = &packet->tuple.destination,
		.backend_port = packet->tuple.destination_port,
		.mode = mode,
	};

	if (mode != OPEN_OUTSIDE && (!may_be_new(packet) || !reply_is_taken(packet, now))) {
		try_previous(ctx, hook, PREVIOUS_KNOWN);
		return VERDICT_PASS;
	}
	return open_and_translate(ctx, packet, &new, now);
}

static __always_inline enum client_kind client_kind(enum hook hook, const struct packet *packet)
{
	if (sent_by_pod(hook))
		return kind_of_pod(&packet->tuple.source);
	return from_network(hook) ? CLIENT_OUTSIDE : CLIENT_NODE;
}

/* Returns 32 bits of a tuple, or of its source address alone, that look random to those who do not know the seed. */
static __noinline __u32 hash_tuple(const struct tuple *tuple, __u64 seed, bool source_alone)
{
	const __u32 *word = (const __u32 *)tuple;

	for (__u32 i = 0; i < sizeof(*tuple) / sizeof(*word); i++) {
		if (source_alone && i == sizeof(tuple->source) / sizeof(*word))
			break;
		seed = (seed ^ word[i]) * 0x9e3779b97f4a7c15ULL;
		seed ^= seed >> 32;
	}
	return seed;
}

/* Returns the number by which a connection that packets open selects its backend. A connection whose entry is lost
 * gets its backend again by it, while the list stays. With Maglev it does on every node that has the same backends and
 * seed, and mostly when the list changes. With session affinity, the client's address alone decides there. */
static __always_inline __u32 connection_number(const struct service *service, const struct tuple *tuple)
{
	if (service->cells)
		return hash_tuple(tuple, config.maglev_seed, service->affinity_s);
	return hash_tuple(tuple, config.seed, false);
}

static __noinline bool is_same_tuple(const struct tuple *one, const struct tuple *other)
{
	return same_address(&one->source, &other->source) && same_address(&one->destination, &other->destination) &&
	       both_ports(one) == both_ports(other) && one->protocol == other->protocol;
}

/* Does the backend's node answer the connection? Another part opens it then, or sends the packet here again. */
static __always_inline bool begins_dsr(const struct service *service, const struct decision *decision,
				       const struct tuple *tuple)
{
	struct scratch *scratch = this_scratch();
	bool again;

	if (!scratch)
		return false;
	again = is_same_tuple(&scratch->dsr.again, tuple);
	scratch->dsr.again.protocol = 0;
	scratch->dsr.service = service->id;
	scratch->dsr.backend = decision->id;
	return !again;
}

/* Decides on a new connection to a service, and how it is opened. `local` becomes the entry of its backend's address,
 * or NULL. Where it is not opened, its `verdict` says why. */
static __always_inline struct new_flow plan_new(context *ctx, enum hook hook, const struct packet *packet,
						const struct service *service, struct local_address **local)
{
	struct client client = { &packet->tuple.source, client_kind(hook, packet), hook };
	struct new_flow new = {
		.service = service->id,
		.flags = stays_on_node(hook) ? FLOW_FLAG_FROM_SELF : 0,
		.mode = OPEN_DNAT,
	};
	struct decision decision;

	if (from_network(hook) && !config.external_cluster_ip && is_internal(service)) {
		new.verdict = VERDICT_DROP_EXTERNAL_CLUSTER_IP;
		return new;
	}
	decision = judge(service, &client, client.address, connection_number(service, &packet->tuple));
	new.verdict = decision.verdict;
	if (!decision.backend)
		return new;
	*local = lookup_local_address(&decision.backend->address);
	if (is_direct(service, hook) && !*local && !decision.masquerade && !(service->flags & SERVICE_LOCAL)) {
		if (begins_dsr(service, &decision, &packet->tuple)) {
			new.verdict = VERDICT_DSR;
			return new;
		}
		decision.masquerade = true;
	}
	/* The node would take a packet from its own address for a forged one. */
	if (decision.masquerade && (!*local || (*local)->kind == LOCAL_POD))
		new.mode = *local ? OPEN_MASQUERADE : OPEN_MASQUERADE_OUT;
	else if (!*local && goes_outside(ctx, hook, packet, &decision.backend->address))
		new.mode = OPEN_OUTSIDE;
	new.backend = decision.id;
	new.backend_address = &decision.backend->address;
	new.backend_port = decision.backend->port;
	return new;
}

/* A new connection to a service. `local` becomes the entry of its backend's address, or NULL. */
static __always_inline enum verdict balance_new(context *ctx, enum hook hook, struct packet *packet,
						const struct service *service, struct local_address **local, __u64 now)
{
	struct new_flow new;

	if (!may_be_new(packet))
		try_previous(ctx, hook, PREVIOUS_KNOWN);
	new = plan_new(ctx, hook, packet, service, local);
	return new.backend_address ? open_and_translate(ctx, packet, &new, now) : new.verdict;
}

/* Translates a packet with ports if it belongs to a known connection or to a service. Returns VERDICT_PASS
 * (translated or not) or why it is dropped; `local` becomes the entry of the packet's destination, NULL if that is
 * not on this node. */
static __always_inline enum verdict balance_packet(context *ctx, enum hook hook, struct packet *packet,
						   struct local_address **local)
{
	__u64 now = now_ns();
	struct flow *flow = lookup_flow(packet, now);
	enum open_mode mode = OPEN_DNAT;
	struct service *service;
	enum verdict verdict;

	if (config.dsr && from_network(hook) && flow && (flow->flags & FLOW_FLAG_DSR) &&
	    flow->direction == FLOW_FORWARD)
		return VERDICT_DSR;
	if (flow && refresh_flow(ctx, flow, packet, now)) {
		verdict = translate(ctx, packet, flow, now);
		*local = lookup_local_address(&packet->tuple.destination);
		return verdict;
	}
	try_previous(ctx, hook, PREVIOUS_ALL);
	if (is_foreign(hook, packet))
		return VERDICT_FOREIGN;
	*local = lookup_local_address(&packet->tuple.destination);
	service = lookup_service(packet, *local);
	if (service)
		return balance_new(ctx, hook, packet, service, local, now);
	if (!*local && (from_network(hook) || may_be_new(packet))) {
		verdict = judge_no_service(ctx, hook, packet);
		if (verdict != VERDICT_PASS)
			return verdict;
	}
	note_direct(hook, packet, *local, now);
	if (!*local && may_be_new(packet) && goes_outside(ctx, hook, packet, &packet->tuple.destination)) {
		mode = OPEN_OUTSIDE;
	} else if (packet->fragment) {
		note_plain_fragment(hook, packet, *local, now);
		try_previous(ctx, hook, PREVIOUS_KNOWN);
		return VERDICT_PASS;
	}
	return avoid_port_clash(ctx, hook, packet, mode, now);
}

/* Returns the service that the node itself connects to, or NULL. */
static __always_inline struct service *lookup_service_of_node(enum hook hook, const struct packet *packet)
{
	const struct tuple *tuple = &packet->tuple;

	if (stays_on_node(hook))
		return lookup_service_on_node(&tuple->destination, tuple->destination_port, tuple->protocol);
	return lookup_service(packet, NULL);
}

/* Translates a packet with ports that the node itself sends: replies of a backend in its network get their service's
 * address back, connections to services that no socket hook has translated get a backend, and other connections get
 * another port where theirs clashes with a translated one. Returns as balance_packet does; `local` is set where the
 * destination changed. */
static __always_inline enum verdict balance_node(context *ctx, enum hook hook, struct packet *packet,
						 struct local_address **local)
{
	__u64 now = now_ns();
	struct flow *flow = lookup_flow(packet, now);

	if (flow && enters_pod(hook) && flow->direction != FLOW_REPLY && flow->service)
		return VERDICT_PASS;
	if (flow && refresh_flow(ctx, flow, packet, now)) {
		enum verdict verdict = translate(ctx, packet, flow, now);

		if (packet->moved)
			*local = lookup_local_address(&packet->tuple.destination);
		return verdict;
	}
	try_previous(ctx, hook, PREVIOUS_ALL);
	if (!enters_pod(hook) && may_be_new(packet)) {
		struct service *service = lookup_service_of_node(hook, packet);
		enum verdict verdict;

		if (service)
			return balance_new(ctx, hook, packet, service, local, now);
		verdict = judge_no_service(ctx, hook, packet);
		if (verdict != VERDICT_PASS)
			return verdict;
	}
	if (packet->fragment)
		note_plain_fragment(hook, packet, NULL, now);
	return avoid_port_clash(ctx, hook, packet, OPEN_FROM_NODE, now);
}
