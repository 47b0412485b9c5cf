/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Opens a translated connection: DNAT to a backend, and SNAT where the reply would not come back to this node.
 * The key of the reply entry is the allocation of the source port: no list of free ports, no lock. */
#pragma once

#include "conntrack.h"
#include "skb.h"
#include "source.h"

#define SNAT_DRAWS 8
#define SNAT_PORTS_A_DRAW 32
#define SNAT_PAUSE_NS 10000000ULL /* after a failure */

/* Has a socket the port already? One of the node, that would take the reply for its own; or one of the backend, with the
 * client directly: that connection has no entry, and its packets would be taken for replies. */
static __always_inline bool socket_has(context *ctx, struct opening *opening)
{
	bool of_node = opening->netns == (__u32)BPF_F_CURRENT_NETNS, found;
	const struct tuple *key = &opening->key;
	const struct address *peer = of_node ? &key->source : &key->destination;
	const struct address *own = of_node ? &key->destination : &key->source;
	__be16 peer_port = of_node ? key->source_port : key->destination_port;
	__be16 own_port = of_node ? key->destination_port : key->source_port;
	struct bpf_sock_tuple *sockets = &opening->sockets;
	struct bpf_sock *socket;
	__u32 size;

	if (is_ipv4(&key->source)) {
		sockets->ipv4.saddr = peer->word[3];
		sockets->ipv4.daddr = own->word[3];
		sockets->ipv4.sport = peer_port;
		sockets->ipv4.dport = own_port;
		size = sizeof(sockets->ipv4);
	} else {
		__builtin_memcpy(sockets->ipv6.saddr, peer, sizeof(sockets->ipv6.saddr));
		__builtin_memcpy(sockets->ipv6.daddr, own, sizeof(sockets->ipv6.daddr));
		sockets->ipv6.sport = peer_port;
		sockets->ipv6.dport = own_port;
		size = sizeof(sockets->ipv6);
	}
	if (key->protocol == IPPROTO_TCP) {
		socket = bpf_skc_lookup_tcp(ctx, sockets, size, opening->netns, 0);
		if (!socket)
			return false;
		/* A server that listens has no connection yet. */
		found = of_node || socket->state != BPF_TCP_LISTEN;
		bpf_sk_release(socket);
		return found;
	}
	if (!of_node)
		return false; /* a server has one socket for all datagrams */
	socket = bpf_sk_lookup_udp(ctx, sockets, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

/* Puts the reply entry in place unless another connection holds its key. Of two CPUs that find the same expired holder,
 * one takes it out and one gets its own entry in. */
static __always_inline bool claim_reply(struct opening *opening)
{
	const struct flow *reply = &opening->reply;
	struct flow *holder;

	if (!bpf_map_update_elem(&flows, &opening->key, reply, BPF_NOEXIST))
		return true;
	holder = bpf_map_lookup_elem(&flows, &opening->key);
	if (!holder)
		return false;
	if (holder->expires_ns <= opening->now) {
		bpf_map_delete_elem(&flows, &opening->key);
		return !bpf_map_update_elem(&flows, &opening->key, reply, BPF_NOEXIST);
	}
	/* The client itself, which uses its port again. */
	return holder->direction == FLOW_REPLY && holder->destination_port == reply->destination_port &&
	       holder->source_port == reply->source_port && same_address(&holder->destination, &reply->destination) &&
	       same_address(&holder->source, &reply->source) &&
	       !bpf_map_update_elem(&flows, &opening->key, reply, BPF_ANY);
}

/* Counts the ports handed out in place of clients' own; CPUs may skip or repeat some, which costs another look. */
static __u32 ports_drawn;

/* Port number `place` of those that may stand for clients' own; any number is a place. */
static __always_inline __be16 snat_port(__u32 place)
{
	__u32 port;

	place %= config.snat_ports + config.snat_extra_ports;
	port = place < config.snat_ports ? config.snat_port_first + place
					 : config.snat_extra_first + place - config.snat_ports;
	return bpf_htons(port);
}

/* Gives the key a port with which it looks free. The ports are tried in turn first: what was closed longest ago comes
 * first, and a port drawn at random meets the backend's TIME_WAIT sockets, whose timestamps then make it ignore the
 * SYN. Where these are all taken, long-lived connections may have a whole stretch: then anywhere. */
static __always_inline bool draw_port(struct opening *opening, bool in_turn)
{
	for (int i = 0; i < SNAT_PORTS_A_DRAW; i++) {
		struct flow *holder;

		opening->key.destination_port = snat_port(in_turn ? ports_drawn++ : bpf_get_prandom_u32());
		holder = bpf_map_lookup_elem(&flows, &opening->key);
		if (!holder || holder->expires_ns <= opening->now)
			return true;
	}
	return false;
}

/* What is known of the backend's earlier failures, or NULL. */
static __always_inline struct snat_failure *lookup_failure(struct opening *opening)
{
	opening->destination.address = opening->key.source;
	opening->destination.port = opening->key.source_port;
	opening->destination.protocol = opening->key.protocol;
	return bpf_map_lookup_elem(&snat_failures, &opening->destination);
}

/* A flood must not have every packet look everywhere: for a while after a failure, one draw must do. */
static __always_inline void limit_draws(struct opening *opening)
{
	struct snat_failure *failure = lookup_failure(opening);

	if (failure && opening->now - failure->last_ns < SNAT_PAUSE_NS)
		opening->draws = 1;
}

/* For `kubypass status`: where to more backends or ports are needed. */
static __always_inline void count_failure(struct opening *opening)
{
	struct snat_failure *failure = lookup_failure(opening);

	if (failure) {
		__sync_fetch_and_add(&failure->connections, 1);
		failure->last_ns = opening->now;
		return;
	}
	opening->failure.connections = 1;
	opening->failure.last_ns = opening->now;
	bpf_map_update_elem(&snat_failures, &opening->destination, &opening->failure, BPF_NOEXIST);
}

/* Finds a source port for which the reply that waits in `openings` has a key to itself: the client's own, or another.
 * Returns it; 0 if there is none. A function of its own: the verifier goes through it once. What it works with is in
 * the map, because its stack and its callers' are one. */
__noinline int claim_source_port(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct opening *opening = bpf_map_lookup_elem(&openings, &zero);

	if (!opening)
		return 0;
	opening->draws = SNAT_DRAWS;
	for (__u32 i = 0; i <= SNAT_DRAWS && i <= opening->draws; i++) {
		if (i == 1)
			limit_draws(opening);
		if (i ? !draw_port(opening, i <= SNAT_DRAWS / 2)
		      : opening->node_source && bpf_ntohs(opening->key.destination_port) < 1024)
			continue;
		if (opening->netns != NETNS_UNKNOWN && socket_has(ctx, opening))
			continue;
		if (claim_reply(opening))
			return opening->key.destination_port;
	}
	count_failure(opening);
	return 0;
}

/* Whose sockets may have the reply's port: the node's where the source is its address, else those of a pod here. */
static __always_inline __u32 netns_of_rivals(const struct opening *opening)
{
	struct local_address *local;

	if (opening->node_source)
		return BPF_F_CURRENT_NETNS;
	local = lookup_local_address(&opening->key.source);
	return local && local->kind == LOCAL_POD ? local->netns : NETNS_UNKNOWN;
}

/* How a connection is opened. */
enum open_mode {
	OPEN_DNAT, /* the client's address stays */
	OPEN_MASQUERADE, /* the source becomes the node's address */
	OPEN_MASQUERADE_OUT, /* the same, for a backend elsewhere: the address that its route has */
	OPEN_FROM_NODE, /* the client is the node itself: only its port may have to change */
};

/* Opens the connection of `packet` to `backend` and leaves in `forward` what the packet becomes. Returns
 * VERDICT_PASS or the reason why not. */
static __always_inline enum verdict open_flow(context *ctx, struct packet *packet, const struct backend *backend,
					      enum open_mode mode, struct flow *forward, __u64 now)
{
	__u32 zero = 0;
	struct opening *opening = bpf_map_lookup_elem(&openings, &zero);
	__be16 port;

	if (!opening)
		return VERDICT_DROP_NO_SNAT_PORT;
	opening->key = (struct tuple){
		.source = backend->address,
		.destination = packet->tuple.source,
		.source_port = backend->port,
		.destination_port = packet->tuple.source_port,
		.protocol = packet->tuple.protocol,
	};
	opening->reply = (struct flow){
		.source = packet->tuple.destination,
		.destination = packet->tuple.source,
		.source_port = packet->tuple.destination_port,
		.destination_port = packet->tuple.source_port,
		.service = forward->service,
		.backend = forward->backend,
		.direction = FLOW_REPLY,
		.flags = forward->flags,
		.expires_ns = now + flow_timeout_ns(packet->tuple.protocol, FLOW_NEW, FLOW_NEW),
	};
	opening->now = now;
	opening->node_source = mode != OPEN_DNAT;
	opening->netns = netns_of_rivals(opening);
	if (mode == OPEN_MASQUERADE || mode == OPEN_MASQUERADE_OUT)
		opening->key.destination =
			packet->ethertype == bpf_htons(ETH_P_IP) ? config.node_ipv4 : config.node_ipv6;
	if (mode == OPEN_MASQUERADE_OUT)
		prefer_source_of_route(ctx, opening);
	port = claim_source_port(ctx);
	if (!port)
		return VERDICT_DROP_NO_SNAT_PORT;
	forward->source = opening->key.destination;
	forward->source_port = port;
	forward->destination = backend->address;
	forward->destination_port = backend->port;
	forward->direction = FLOW_FORWARD;
	forward->expires_ns = opening->reply.expires_ns;
	if (bpf_map_update_elem(&flows, &packet->tuple, forward, BPF_ANY)) {
		bpf_map_delete_elem(&flows, &opening->key);
		return VERDICT_DROP_FLOWS_FULL;
	}
	return VERDICT_PASS;
}
