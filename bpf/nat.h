/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Opens a translated connection: DNAT to a backend, and SNAT where the reply would not come back to this node.
 * The key of the reply entry is the allocation of the source port: no list of free ports, no lock. */
#pragma once

#include "conntrack.h"
#include "skb.h"

#define SNAT_TRIES 16
#define SNAT_PORT_FIRST 61000 /* above Linux's ephemeral ports (32768..60999) and NodePorts */
#define SNAT_PORTS (65536 - SNAT_PORT_FIRST)

/* Would the reply be taken for that of a connection of the node itself? */
static __always_inline bool node_socket_has(context *ctx, const struct packet *packet, const struct tuple *reply)
{
	struct bpf_sock_tuple sockets = {};
	struct bpf_sock *socket;
	__u32 size;

	if (packet->ethertype == bpf_htons(ETH_P_IP)) {
		sockets.ipv4.saddr = reply->source.word[3];
		sockets.ipv4.daddr = reply->destination.word[3];
		sockets.ipv4.sport = reply->source_port;
		sockets.ipv4.dport = reply->destination_port;
		size = sizeof(sockets.ipv4);
	} else {
		__builtin_memcpy(sockets.ipv6.saddr, &reply->source, sizeof(sockets.ipv6.saddr));
		__builtin_memcpy(sockets.ipv6.daddr, &reply->destination, sizeof(sockets.ipv6.daddr));
		sockets.ipv6.sport = reply->source_port;
		sockets.ipv6.dport = reply->destination_port;
		size = sizeof(sockets.ipv6);
	}
	if (reply->protocol == IPPROTO_TCP)
		socket = bpf_skc_lookup_tcp(ctx, &sockets, size, BPF_F_CURRENT_NETNS, 0);
	else
		socket = bpf_sk_lookup_udp(ctx, &sockets, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

/* Puts the reply entry in place unless another connection holds its key. */
static __always_inline bool claim_reply(const struct tuple *key, const struct flow *reply, __u64 now)
{
	struct flow *holder;

	if (!bpf_map_update_elem(&flows, key, reply, BPF_NOEXIST))
		return true;
	holder = bpf_map_lookup_elem(&flows, key);
	if (!holder)
		return false;
	if (holder->expires_ns > now &&
	    (holder->direction != FLOW_REPLY || holder->destination_port != reply->destination_port ||
	     holder->source_port != reply->source_port || !same_address(&holder->destination, &reply->destination) ||
	     !same_address(&holder->source, &reply->source)))
		return false;
	return !bpf_map_update_elem(&flows, key, reply, BPF_ANY);
}

/* Counts the ports handed out in place of clients' own; CPUs may skip or repeat some, which costs another try. */
static __u32 ports_drawn;

/* Finds a source port for which the reply key is free. The client's own comes first, then the range in turn: a port
 * drawn at random meets the backend's TIME_WAIT sockets, whose timestamps then make it ignore the SYN. With `node_source`, the source is an
 * address of the node, whose sockets have ports too. */
static __always_inline enum verdict claim_source_port(context *ctx, const struct packet *packet, struct tuple *key,
						      const struct flow *reply, bool node_source, __u64 now)
{
	for (int i = 0; i < SNAT_TRIES; i++) {
		if (i || (node_source && bpf_ntohs(key->destination_port) < 1024))
			key->destination_port = bpf_htons(SNAT_PORT_FIRST + ports_drawn++ % SNAT_PORTS);
		if (node_source && node_socket_has(ctx, packet, key))
			continue;
		if (claim_reply(key, reply, now))
			return VERDICT_PASS;
	}
	return VERDICT_DROP_NO_SNAT_PORT;
}

/* How a connection is opened. */
enum open_mode {
	OPEN_DNAT, /* the client's address stays */
	OPEN_MASQUERADE, /* the source becomes the node's address */
	OPEN_FROM_NODE, /* the client is the node itself: only its port may have to change */
};

/* Opens the connection of `packet` to `backend` and leaves in `forward` what the packet becomes. Returns
 * VERDICT_PASS or the reason why not. */
static __always_inline enum verdict open_flow(context *ctx, struct packet *packet, const struct backend *backend,
					      enum open_mode mode, struct flow *forward, __u64 now)
{
	struct tuple key = {
		.source = backend->address,
		.destination = packet->tuple.source,
		.source_port = backend->port,
		.destination_port = packet->tuple.source_port,
		.protocol = packet->tuple.protocol,
	};
	struct flow reply = {
		.source = packet->tuple.destination,
		.destination = packet->tuple.source,
		.source_port = packet->tuple.destination_port,
		.destination_port = packet->tuple.source_port,
		.service = forward->service,
		.backend = forward->backend,
		.direction = FLOW_REPLY,
	};
	enum verdict verdict;

	reply.expires_ns = now + flow_timeout_ns(packet->tuple.protocol, FLOW_NEW, FLOW_NEW);
	if (mode == OPEN_MASQUERADE)
		key.destination = packet->ethertype == bpf_htons(ETH_P_IP) ? config.node_ipv4 : config.node_ipv6;
	verdict = claim_source_port(ctx, packet, &key, &reply, mode != OPEN_DNAT, now);
	if (verdict != VERDICT_PASS)
		return verdict;
	forward->source = key.destination;
	forward->source_port = key.destination_port;
	forward->destination = backend->address;
	forward->destination_port = backend->port;
	forward->direction = FLOW_FORWARD;
	forward->expires_ns = reply.expires_ns;
	if (bpf_map_update_elem(&flows, &packet->tuple, forward, BPF_ANY)) {
		bpf_map_delete_elem(&flows, &key);
		return VERDICT_DROP_FLOWS_FULL;
	}
	return VERDICT_PASS;
}
