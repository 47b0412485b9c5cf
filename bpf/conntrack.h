/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Connections that are translated packet by packet. Each has two entries in `flows`, one for each direction: the key
 * is a packet as it arrives, the value is what that packet becomes. The reverse of a value is the key of the other
 * direction, so either entry finds its partner. An expired entry counts as absent. */
#pragma once

#include "clock.h"
#include "maps.h"
#include "packet.h"
#include "service.h"
#include "tcp_state.h"

#define REFRESH_NS (1ULL << 30) /* an entry's expiry is written at most about once a second */

static __always_inline struct tuple flow_target(const struct flow *flow, __u8 protocol)
{
	return (struct tuple){
		.source = flow->source,
		.destination = flow->destination,
		.source_port = flow->source_port,
		.destination_port = flow->destination_port,
		.protocol = protocol,
	};
}

static __always_inline struct tuple reversed(const struct tuple *tuple)
{
	return (struct tuple){
		.source = tuple->destination,
		.destination = tuple->source,
		.source_port = tuple->destination_port,
		.destination_port = tuple->source_port,
		.protocol = tuple->protocol,
	};
}

/* Returns the key of the other direction. */
static __always_inline struct tuple partner_key(const struct flow *flow, __u8 protocol)
{
	struct tuple target = flow_target(flow, protocol);

	return reversed(&target);
}

/* Every packet may open a connection but a TCP segment without SYN. */
static __always_inline bool may_be_new(const struct packet *packet)
{
	return packet->tuple.protocol != IPPROTO_TCP || is_new_connection(packet);
}

/* Is the flow's backend still one of its service's? A flow of no service has no backend to lose. */
static __always_inline bool backend_is_valid(const struct flow *flow)
{
	struct backend *backend;

	if (!flow->service)
		return true;
	backend = lookup_backend(flow->backend);
	return backend && backend->state != BACKEND_NONE && backend->service == flow->service &&
	       backend->port == flow->destination_port && same_address(&backend->address, &flow->destination);
}

/* Does the flow need another backend? It keeps a lost one while its service has no usable endpoint: kube-proxy
 * removes flows of services with endpoints only. */
static __always_inline bool backend_is_lost(const struct flow *flow, const struct packet *packet)
{
	const struct tuple *tuple = &packet->tuple;
	struct service *service;

	if (backend_is_valid(flow))
		return false;
	service = lookup_frontend(&tuple->destination, tuple->destination_port, tuple->protocol);
	if (!service)
		service = lookup_node_port(&tuple->destination, tuple->destination_port, tuple->protocol);
	return !service || service->id != flow->service || (service->flags & SERVICE_HAS_ENDPOINTS);
}

/* Does the packet belong to the entry that its tuple found? A SYN opens a new connection once the one before is over:
 * clients use their ports again. Until then it may be forged, and the backend that has the connection is asked: it
 * takes the SYN as a repeated one, or answers so that its sender ends the old connection (RFC 5961 section 4). */
static __always_inline bool flow_matches(const struct flow *flow, const struct packet *packet)
{
	if (flow->direction == FLOW_REPLY)
		return true;
	if (packet->tuple.protocol == IPPROTO_UDP)
		return !backend_is_lost(flow, packet);
	if (!is_new_connection(packet))
		return true;
	return flow->state != FLOW_CLOSED && backend_is_valid(flow);
}

/* How long a connection lives without a packet, by the states of its two entries. */
static __always_inline __u64 flow_timeout_ns(__u8 protocol, __u8 state, __u8 partner_state)
{
	if (protocol != IPPROTO_TCP)
		return config.any_timeout_ns;
	if (state == FLOW_CLOSED)
		return config.tcp_fin_timeout_ns;
	/* An unfinished handshake, perhaps of a SYN flood, does not deserve a connection's lifetime. */
	if (state == FLOW_NEW || partner_state == FLOW_NEW)
		return config.tcp_syn_timeout_ns;
	return config.tcp_timeout_ns;
}

/* Does the entry at the other direction's key belong to the same connection? The client may have opened another
 * connection from its port, to another backend. */
static __always_inline bool is_partner(const struct flow *partner, const struct packet *packet)
{
	return partner->destination_port == packet->tuple.source_port &&
	       same_address(&partner->destination, &packet->tuple.source);
}

/* Extends the lifetime of both directions, since traffic may be one-sided for hours. */
static __always_inline void refresh_flow(context *ctx, struct flow *flow, const struct packet *packet, __u64 now)
{
	bool tcp = packet->tuple.protocol == IPPROTO_TCP, near = false;
	__u32 end = 0, known_end = flow->end;
	struct tuple key;
	struct flow *partner;
	__u64 timeout;

	if (tcp) {
		end = segment_end(ctx, packet);
		near = !(packet->tcp_flags & (TCP_SYN | TCP_RST)) && follow_numbers(flow, packet, end);
	}
	timeout = flow_timeout_ns(packet->tuple.protocol, flow->state, flow->state);
	if (flow->expires_ns - now + REFRESH_NS > timeout && !(tcp && may_change_state(flow, packet, near)))
		return;
	key = partner_key(flow, packet->tuple.protocol);
	partner = bpf_map_lookup_elem(&flows, &key);
	if (!partner || !is_partner(partner, packet)) {
		if (!(packet->tcp_flags & (TCP_SYN | TCP_RST | TCP_FIN)))
			flow->expires_ns = now + timeout;
		return;
	}
	if (tcp && !judge_segment(flow, partner, packet, end, known_end, near))
		return;
	timeout = flow_timeout_ns(packet->tuple.protocol, flow->state, partner->state);
	flow->expires_ns = now + timeout;
	partner->expires_ns = now + timeout;
}

/* Returns the live entry of the packet, or NULL. */
static __always_inline struct flow *lookup_flow(const struct packet *packet, __u64 now)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, &packet->tuple);

	if (!flow || flow->expires_ns <= now || !flow_matches(flow, packet))
		return NULL;
	return flow;
}

/* During an upgrade, the previous version's program handles packets of connections that are not in our maps yet;
 * then this does not return. At all other times there is no such program, and the call costs nothing: the JIT makes
 * it a jump to the next instruction. */
static __always_inline void try_previous(context *ctx, enum hook hook, enum previous_kind kind)
{
	bpf_tail_call(ctx, &previous_programs, (kind + (L2_BYTES ? 0 : PREVIOUS_MAX)) * HOOK_MAX + hook);
}

/* Would the replies to this packet be taken for those of a translated connection? A socket may connect to a backend
 * from the same port as a connection to that backend that is translated. */
static __always_inline bool reply_is_taken(const struct packet *packet, __u64 now)
{
	struct tuple key = reversed(&packet->tuple);
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);

	return flow && flow->expires_ns > now;
}
