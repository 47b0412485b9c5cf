/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The node that balances a connection in DSR mode. It has both entries of it (conntrack.h), but sees one direction
 * only. */
#pragma once

#include "balance.h"
#include "dsr_option.h"
#include "finish.h"
#include "nat.h"
#include "route.h"

#define DSR_SYN_REPEATS 2

static __always_inline bool refuse_dsr(struct scratch *scratch, enum dsr_refusal refusal)
{
	scratch->dsr.refusal = refusal;
	return false;
}

static __always_inline void count_refusal(const struct scratch *scratch)
{
	__u32 index = scratch->dsr.refusal;
	__u64 *refused = bpf_map_lookup_elem(&dsr_refusals, &index);

	if (refused)
		(*refused)++;
}

/* Opens the connection of the packet with the backend that was selected. Returns false where it cannot be one of DSR,
 * and `scratch` says why; packets of other nodes and of their pods get the answers that they get without DSR. */
static __always_inline bool open_dsr(context *ctx, struct scratch *scratch, const struct packet *packet, __u64 now)
{
	struct new_flow new = { .mode = OPEN_DNAT, .flags = FLOW_FLAG_DSR };
	struct nat_setup *nat = &scratch->nat;
	struct backend *backend = lookup_backend(scratch->dsr.backend);
	struct dsr_peer *peer;

	if (!backend || lookup_peer(&packet->tuple.source))
		return refuse_dsr(scratch, DSR_REFUSAL_MAX); /* that is not counted */
	peer = lookup_peer(&backend->address);
	if (!peer || peer->dispatch != DSR_OPTION)
		return refuse_dsr(scratch, DSR_REFUSED_PEER);
	if (extra_bytes(packet))
		return refuse_dsr(scratch, DSR_REFUSED_OPTIONS);
	if (!packet->fixed_size && peer->mtu &&
	    routed_bytes(ctx, packet) + option_bytes(is_ipv4_packet(packet)) > peer->mtu)
		return refuse_dsr(scratch, DSR_REFUSED_SIZE);
	new.service = scratch->dsr.service;
	new.backend = scratch->dsr.backend;
	new.backend_address = &backend->address;
	new.backend_port = backend->port;
	if (open_flow(ctx, scratch, packet, &new, now) != VERDICT_PASS)
		return refuse_dsr(scratch, DSR_REFUSED_CLASH);
	if (nat->forward.source_port == packet->tuple.source_port)
		return true;
	/* The client has a connection like it, and its answers would have this port. */
	bpf_map_delete_elem(&transient_flows, &nat->reply_key);
	bpf_map_delete_elem(&transient_flows, &packet->tuple);
	return refuse_dsr(scratch, DSR_REFUSED_CLASH);
}

/* Takes in what a segment of the client says of its connection: nothing is known of the answers. Returns false where
 * it repeats its SYN once too often: what DSR needs does not work on the way, or the backend's node refuses it. */
static __always_inline bool follow_client(context *ctx, struct flow *flow, const struct packet *packet)
{
	__u32 end = segment_end(ctx, packet);

	if (is_new_connection(packet)) {
		if (flow->state != FLOW_NEW)
			return true;
		if (flow->end == end)
			return flow->acknowledged++ < DSR_SYN_REPEATS;
		flow->end = end;
		flow->acknowledged = 0;
		return true;
	}
	if (flow->state == FLOW_NEW) {
		if (!is_near(packet->sequence, flow->end))
			return true;
		note_numbers(flow, packet, end);
		flow->state = FLOW_ESTABLISHED;
	} else if (!follow_numbers(flow, packet, end)) {
		return true;
	}
	if (packet->tcp_flags & (TCP_FIN | TCP_RST))
		flow->state = FLOW_CLOSED;
	return true;
}

/* Extends the life of both entries, and confirms a TCP connection: they move to `flows`. */
static __always_inline void extend_dsr(struct flow *flow, const struct packet *packet, __u64 now)
{
	__u64 timeout = flow_timeout_ns(packet->tuple.protocol, flow->state, flow->state);
	bool confirms = packet->tuple.protocol == IPPROTO_TCP && flow->state == FLOW_ESTABLISHED &&
			(flow->flags & FLOW_FLAG_OPENING);
	struct tuple key = partner_key(flow, packet->tuple.protocol);
	struct flow *reply;

	if (flow->expires_ns - now + REFRESH_NS > timeout && flow->expires_ns - now <= timeout && !confirms)
		return;
	flow->expires_ns = now + timeout;
	note_transient(&packet->tuple, flow);
	reply = find_flow(&key, now, false);
	if (!reply)
		return;
	reply->expires_ns = now + timeout;
	note_transient(&key, reply);
	if (confirms)
		confirm_entries(flow, reply, &packet->tuple, &key);
}

/* Takes in a packet of a known connection. Returns as follow_client does. */
static __always_inline bool follow_dsr(context *ctx, struct flow *flow, const struct packet *packet, __u64 now)
{
	if (packet->tuple.protocol == IPPROTO_TCP && !follow_client(ctx, flow, packet))
		return false;
	extend_dsr(flow, packet, now);
	return true;
}

/* Takes in a packet of a known connection. Does it stay one of DSR? Datagrams do while the way to the backend's node is
 * known to work: nobody else would ever tell their client. */
static __always_inline bool goes_on(context *ctx, struct scratch *scratch, struct flow *flow,
				    const struct packet *packet, __u64 now)
{
	struct dsr_peer *peer;

	if (packet->tuple.protocol == IPPROTO_UDP) {
		peer = lookup_peer(&flow->destination);
		if (!peer || peer->dispatch == DSR_NONE)
			return refuse_dsr(scratch, DSR_REFUSED_PEER);
	}
	return follow_dsr(ctx, flow, packet, now) || refuse_dsr(scratch, DSR_REFUSED_UNANSWERED);
}

/* What the option says. */
static __always_inline void name_frontend(struct dsr_setup *dsr, const struct packet *packet)
{
	dsr->frontend = packet->tuple.destination;
	dsr->port = packet->tuple.destination_port;
}

/* Does the packet get the option? */
static __always_inline bool is_told(const struct packet *packet, bool opens)
{
	return !extra_bytes(packet) &&
	       (opens || packet->tuple.protocol == IPPROTO_UDP || (packet->tcp_flags & TCP_SYN));
}

/* Makes a translated packet one that goes to its backend's node; it has an Ethernet header by then. Where it does not
 * fit with the option, its sender is told. One that may be cut, but not by this node, goes without: where the
 * connection is known, the option only makes sure. */
static __always_inline enum verdict forward_dsr(context *ctx, struct packet *packet, const struct dsr_setup *dsr,
						bool told)
{
	bool ipv4 = is_ipv4_packet(packet);
	__u32 bytes = routed_bytes(ctx, packet), added = told ? option_bytes(ipv4) : 0;
	struct dsr_peer *peer = bytes ? lookup_peer(&packet->tuple.destination) : NULL;
	bool cut = !packet->fixed_size;
	enum verdict verdict;

	packet->fixed_size = true;
	if (peer && peer->mtu && bytes + added > peer->mtu) {
		if (!cut || bytes > peer->mtu)
			return give_up_too_big(packet, bytes + added, peer->mtu, added);
		added = 0;
	}
	verdict = forward_to_network(ctx, packet, added, true);
	if (verdict != VERDICT_TO_NETWORK)
		return verdict;
	if (added && insert_option(ctx, ipv4, dsr))
		return VERDICT_DROP_REWRITE;
	return VERDICT_DSR;
}

/* Sends a client's packet in DSR mode. Returns a step; NEXT_AGAIN where its connection is masqueraded instead. */
__noinline __u64 send_dsr(context *ctx, __u32 hook)
{
	struct scratch *scratch = this_scratch();
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};
	__u64 now = now_ns();
	enum verdict verdict;
	struct flow *flow;
	bool opens, told;

	if (!config.dsr || !scratch || parse_packet(ctx, &cursor, &packet) != PARSE_IP || !packet.has_ports)
		return finish(ctx, hook, &packet, VERDICT_DROP_MALFORMED).bits;
	flow = lookup_flow(&packet, now);
	opens = !flow || !(flow->flags & FLOW_FLAG_DSR);
	told = is_told(&packet, opens);
	if (opens ? !open_dsr(ctx, scratch, &packet, now) : !goes_on(ctx, scratch, flow, &packet, now)) {
		if (!opens)
			flow->expires_ns = 0;
		scratch->dsr.again = packet.tuple;
		count_refusal(scratch);
		return (union step){ .next = NEXT_AGAIN }.bits;
	}
	if (opens)
		flow = &scratch->nat.forward;
	name_frontend(&scratch->dsr, &packet);
	verdict = translate(ctx, &packet, flow, now);
	if (verdict == VERDICT_PASS)
		verdict = forward_dsr(ctx, &packet, &scratch->dsr, told);
	return finish(ctx, hook, &packet, verdict).bits;
}
