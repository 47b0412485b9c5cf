/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Connections that are translated packet by packet. Each has two entries, one for each direction: the key is a packet
 * as it arrives, the value is what that packet becomes. The reverse of a value is the key of the other direction, so
 * either entry finds its partner. An expired entry counts as absent.
 * Both entries of a TCP connection move from `transient_flows` to `flows` once the client has acknowledged the server's
 * first number: what nobody has confirmed evicts only what nobody has confirmed. Datagrams confirm nothing. */
#pragma once

#include "clock.h"
#include "maps.h"
#include "packet.h"
#include "service.h"
#include "tcp_state.h"

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

/* Returns until when an entry of `transient_flows` may have the ports of a key, in REFRESH_NS. */
static __always_inline __u32 *transient_until(const struct tuple *key)
{
	__u32 index = (key->source_port + key->destination_port * 40503) % PORT_PAIRS;

	return bpf_map_lookup_elem(&transient_ports, &index);
}

/* An entry begins, or lives on. */
static __always_inline void note_transient(const struct tuple *key, const struct flow *flow)
{
	__u32 *until = transient_until(key), end = flow->expires_ns / REFRESH_NS + 1;

	if (until && *until < end && (key->protocol != IPPROTO_TCP || (flow->flags & FLOW_FLAG_OPENING)))
		*until = end;
}

/* Returns the live entry at a key, or NULL; `begins` tells where to look first. */
static __always_inline struct flow *find_flow(const struct tuple *key, __u64 now, bool begins)
{
	bool tcp = key->protocol == IPPROTO_TCP;
	struct flow *flow = NULL;
	__u32 *until;

	if (tcp && !begins)
		flow = bpf_map_lookup_elem(&flows, key);
	if (flow && flow->expires_ns > now)
		return flow;
	until = transient_until(key);
	if (until && *until >= now / REFRESH_NS) {
		flow = bpf_map_lookup_elem(&transient_flows, key);
		if (flow && flow->expires_ns > now)
			return flow;
	}
	if (!tcp || !begins)
		return NULL;
	flow = bpf_map_lookup_elem(&flows, key);
	return flow && flow->expires_ns > now ? flow : NULL;
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
	return backend && backend->service == flow->service && backend->port == flow->destination_port &&
	       same_address(&backend->address, &flow->destination);
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
	/* Whether the backend is still one of the frontend's is not known of what another node has balanced. */
	if (packet->tuple.protocol == IPPROTO_UDP)
		return !backend_is_lost(flow, packet) &&
		       !(config.dsr && (flow->flags & FLOW_FLAG_SERVED) &&
			 !same_address(&flow->destination, &packet->tuple.destination));
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

/* Marks both entries of a connection as confirmed. Of TCP, they move to `flows`; where they were they expire. */
static __always_inline void confirm_entries(struct flow *flow, struct flow *partner, const struct tuple *flow_key,
					    const struct tuple *key)
{
	flow->flags &= ~FLOW_FLAG_OPENING;
	partner->flags &= ~FLOW_FLAG_OPENING;
	if (flow_key->protocol != IPPROTO_TCP)
		return;
	if (bpf_map_update_elem(&flows, key, partner, BPF_ANY) ||
	    bpf_map_update_elem(&flows, flow_key, flow, BPF_ANY)) {
		flow->flags |= FLOW_FLAG_OPENING; /* it is tried again */
		return;
	}
	flow->expires_ns = 0;
	partner->expires_ns = 0;
}

/* Confirms the connection once the client has shown that it gets answers: in TCP it has acknowledged the first, else it
 * has sent something after one. */
static __always_inline void confirm_flow(struct flow *flow, struct flow *partner, const struct packet *packet,
					 const struct tuple *key)
{
	bool tcp = packet->tuple.protocol == IPPROTO_TCP;

	if (!(flow->flags & FLOW_FLAG_OPENING) || flow->direction == FLOW_REPLY || partner->state == FLOW_NEW ||
	    partner->state == FLOW_CLOSED || (tcp && flow->state == FLOW_NEW))
		return;
	confirm_entries(flow, partner, &packet->tuple, key);
}

/* A connection that another node has balanced is over: the client may use its port again, and its packets may come
 * without the option. `key` is room for a key. */
static __always_inline void close_sent(struct tuple *key, const struct flow *reply, __u64 now)
{
	struct flow *sent;

	key->source = reply->destination;
	key->destination = reply->source;
	key->source_port = reply->destination_port;
	key->destination_port = reply->source_port;
	key->protocol = IPPROTO_TCP;
	sent = find_flow(key, now, true);
	if (sent)
		sent->state = FLOW_CLOSED;
}

/* The packet in `scratch` may change its connection: its state, and the lifetime of both directions, since traffic may
 * be one-sided for hours. Returns 1 where the reply's entry was evicted, or its port is another connection's by now:
 * then answers do not return. The function is global, so that the verifier goes through it once. */
__noinline int change_flow(void)
{
	struct scratch *scratch = this_scratch();
	const struct flow_change *change;
	const struct packet *packet;
	struct flow *flow, *partner;
	struct tuple key;
	__u64 timeout;

	if (!scratch)
		return 0;
	change = &scratch->change;
	packet = &change->packet;
	flow = find_flow(&packet->tuple, change->now, packet->tcp_flags & TCP_SYN);
	if (!flow)
		return 0;
	key = partner_key(flow, packet->tuple.protocol);
	if (config.dsr && (flow->flags & FLOW_FLAG_SERVED) && flow->direction == FLOW_REPLY)
		key = reversed(&packet->tuple);
	partner = find_flow(&key, change->now, packet->tcp_flags & TCP_SYN);
	if (!partner || !is_partner(partner, packet)) {
		if (flow->direction == FLOW_FORWARD) {
			flow->expires_ns = 0;
			scratch->nat.reopens = true;
			return 1;
		}
		if (!(packet->tcp_flags & (TCP_SYN | TCP_RST | TCP_FIN)))
			flow->expires_ns =
				change->now + flow_timeout_ns(packet->tuple.protocol, flow->state, flow->state);
		note_transient(&packet->tuple, flow);
		return 0;
	}
	if (packet->tuple.protocol == IPPROTO_TCP &&
	    !judge_segment(flow, partner, packet, change->end, change->known_end, change->near))
		return 0;
	timeout = flow_timeout_ns(packet->tuple.protocol, flow->state, partner->state);
	flow->expires_ns = change->now + timeout;
	partner->expires_ns = change->now + timeout;
	confirm_flow(flow, partner, packet, &key);
	note_transient(&packet->tuple, flow);
	note_transient(&key, partner);
	if (config.dsr && (flow->flags & FLOW_FLAG_SERVED) && flow->state == FLOW_CLOSED)
		close_sent(&scratch->nat.reply_key, flow->direction == FLOW_REPLY ? flow : partner, change->now);
	return 0;
}

/* Takes in a packet of a known flow. Most change nothing but the numbers of their direction. Returns false where the
 * packet has to open its connection again. */
static __always_inline bool refresh_flow(context *ctx, struct flow *flow, const struct packet *packet, __u64 now)
{
	bool tcp = packet->tuple.protocol == IPPROTO_TCP, near = false;
	__u32 end = 0, known_end = flow->end;
	struct scratch *scratch;
	__u64 timeout;

	if (tcp) {
		end = segment_end(ctx, packet);
		near = !(packet->tcp_flags & (TCP_SYN | TCP_RST)) && follow_numbers(flow, packet, end);
	} else if (flow->state == FLOW_NEW && flow->direction == FLOW_REPLY) {
		flow->state = FLOW_ESTABLISHED;
	}
	timeout = flow_timeout_ns(packet->tuple.protocol, flow->state, flow->state);
	if (flow->expires_ns - now + REFRESH_NS > timeout && !(tcp && may_change_state(flow, packet, near, end)))
		return true;
	scratch = this_scratch();
	if (!scratch)
		return true;
	scratch->change.packet = *packet;
	scratch->change.now = now;
	scratch->change.end = end;
	scratch->change.known_end = known_end;
	scratch->change.near = near;
	return !change_flow();
}

/* Returns the live entry of the packet, or NULL. */
static __always_inline struct flow *lookup_flow(const struct packet *packet, __u64 now)
{
	struct flow *flow = find_flow(&packet->tuple, now, packet->tcp_flags & TCP_SYN);
	struct scratch *scratch;

	if (!flow || flow_matches(flow, packet))
		return flow;
	scratch = this_scratch();
	if (scratch)
		scratch->nat.reopens = true;
	return NULL;
}

/* During an upgrade, the previous version's program handles packets of connections that are not in our maps yet;
 * then this does not return. At all other times there is no such program, and the call costs nothing: the JIT makes
 * it a jump to the next instruction. */
static __always_inline void try_previous(context *ctx, enum hook hook, enum previous_kind kind)
{
	bpf_tail_call(ctx, &previous_programs, (kind + (L2_BYTES ? 0 : PREVIOUS_MAX)) * HOOK_MAX + hook);
}

/* Would the replies to this packet be taken for those of a translated connection? A socket may connect to a backend
 * from the same port as a connection to that backend that is translated. The entry may also be its own (masquerade.h).
 */
static __always_inline bool reply_is_taken(const struct packet *packet, __u64 now)
{
	struct tuple key = reversed(&packet->tuple);
	struct flow *holder = find_flow(&key, now, false);

	return holder && !(is_partner(holder, packet) && holder->source_port == packet->tuple.destination_port &&
			   same_address(&holder->source, &packet->tuple.destination));
}
