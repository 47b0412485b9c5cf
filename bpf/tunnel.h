/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DSR by a tunnel: all packets of the client go to the backend's node in Geneve, each with the frontend. What has no
 * ports (later fragments, ICMP errors) names none (port 0): it follows what that node knows of its connection. */
#pragma once

#include "balance.h"
#include "finish.h"
#include "geneve.h"
#include "route.h"
#include "sender.h"

/* Returns the node to which packets to an address go in a tunnel, or NULL. */
static __always_inline struct dsr_peer *lookup_tunnel(const struct address *address)
{
	struct dsr_peer *peer = lookup_peer(address);

	return peer && peer->dispatch == DSR_GENEVE ? peer : NULL;
}

/* Has the packet come in a tunnel, for this node? */
static __always_inline bool arrives_in_tunnel(context *ctx, enum hook hook, const struct packet *packet)
{
	struct local_address *local = NULL;

	if (config.tunnel && from_network(hook) && has_geneve_option(ctx, packet))
		local = lookup_local_address(&packet->tuple.destination);
	return local && local->kind != LOCAL_POD;
}

/* Does the packet hold several datagrams, to be cut on their way (UDP_SEGMENT, GRO)? A kernel that takes such a packet
 * out of a tunnel goes on to treat it as one (adjust_room clears no `encapsulation`), and its receiver drops it. */
static __always_inline bool is_joined(context *ctx, const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_UDP && segment_bytes(ctx);
}

/* May routers cut the packet, or has its sender cut it? It is not sent again, as it was. */
static __always_inline bool is_cut(const struct packet *packet)
{
	return !packet->fixed_size || packet->fragment;
}

/* Sends a translated packet to its backend's node. Where it does not fit in a tunnel, its sender is told; one that may
 * be cut, but not by this node, goes without, and so do joined ones: the other node knows the connection. */
static __always_inline enum verdict forward_in_tunnel(context *ctx, struct packet *packet, struct dsr_setup *dsr)
{
	struct dsr_peer *peer = lookup_tunnel(&packet->tuple.destination);
	bool ipv4 = is_ipv4_packet(packet), cut = is_cut(packet);
	const struct address *own = primary_address(ipv4);
	__u32 bytes = packet->l4_offset - L2_BYTES + packet->l4_bytes;
	__u32 added = peer && own && !is_joined(ctx, packet) ? geneve_bytes(ipv4) : 0;
	struct tuple route = packet->tuple;
	enum verdict verdict;

	packet->fixed_size = true;
	if (segment_bytes(ctx))
		bytes = routed_bytes(ctx, packet);
	if (peer && peer->mtu && bytes + added > peer->mtu) {
		if (!cut || bytes > peer->mtu)
			return give_up_too_big(packet, bytes + added, peer->mtu, added);
		added = 0;
	}
	if (added) {
		route.source_port =
			bpf_htons(GENEVE_SOURCE_PORTS | (hash_tuple(&packet->tuple, config.seed, false) & 0x3fff));
		route.destination_port = bpf_htons(GENEVE_PORT);
		route.protocol = IPPROTO_UDP;
		route.source = *own;
		route.destination = peer->node;
	}
	verdict = forward_by_route(ctx, packet, &route, bytes, added, true);
	if (verdict != VERDICT_TO_NETWORK)
		return verdict;
	return added && wrap(ctx, packet->ethertype, &route, dsr) ? VERDICT_DROP_REWRITE : VERDICT_DSR;
}

/* Sends a packet in a tunnel that is translated already. Returns a step. */
__noinline __u64 send_in_tunnel(context *ctx, __u32 hook)
{
	struct scratch *scratch = this_scratch();
	struct cursor cursor = read_headers(ctx);
	struct packet packet = { .translated = true };

	if (!scratch || parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return finish(ctx, hook, &packet, VERDICT_DROP_MALFORMED).bits;
	if (!packet.has_ports) {
		scratch->dsr.frontend = (struct address){};
		scratch->dsr.port = 0;
	}
	return finish(ctx, hook, &packet, forward_in_tunnel(ctx, &packet, &scratch->dsr)).bits;
}

/* May a node have put it there? Without a frontend, it is an agent's question or a client's packet without ports. */
static __always_inline bool is_carried(const struct packet *packet, const struct dsr_setup *dsr)
{
	const struct tuple *inner = &packet->tuple, *outer = &dsr->arrived;

	if (dsr->port)
		return packet->has_ports;
	if (packet->has_ports)
		return inner->protocol == IPPROTO_UDP && same_address(&inner->source, &outer->source) &&
		       same_address(&inner->destination, &outer->destination);
	return !lookup_peer(&inner->source);
}

/* Takes a packet out of the tunnel in which it has come. Returns a step: another part judges it. */
__noinline __u64 receive_from_tunnel(context *ctx, __u32 hook)
{
	struct packet packet = { .ethertype = packet_ethertype(ctx) };
	struct scratch *scratch = this_scratch();
	struct dsr_peer *peer;

	if (!scratch || read_outer(ctx, is_ipv4_packet(&packet), &scratch->dsr))
		return finish(ctx, hook, &packet, VERDICT_DROP_MALFORMED).bits;
	peer = lookup_peer(&scratch->dsr.arrived.source);
	if (!peer || !peer->is_node || unwrap(ctx, is_ipv4_packet(&packet)))
		return finish(ctx, hook, &packet, VERDICT_DROP_DSR_TUNNEL).bits;
	return (union step){ .action = ACTION_DROP, .next = NEXT_RECEIVE_DSR }.bits;
}
