/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Forwards a packet into a pod, to the network, or to the node's own stack. Redirects bypass netfilter and
 * rp_filter, so a router's duties (TTL, MAC addresses, next hop) are done here. */
#pragma once

#include "hook.h"
#include "passage.h"
#include "rewrite.h"
#include "service.h"

#define AF_INET 2
#define AF_INET6 10
#define LOOPBACK_IFINDEX 1 /* in every network namespace */

/* The packet cannot be forwarded here. As it came, the node's stack may still be able to, or tell the sender why not; a
 * translated packet would be misunderstood. */
static __always_inline enum verdict leave_to_stack(const struct packet *packet, enum verdict reason)
{
	return packet->translated ? reason : VERDICT_PASS;
}

/* As leave_to_stack, where the sender of a translated packet can be told why. */
static __always_inline enum verdict give_up(const struct packet *packet, enum verdict answer, enum verdict drop)
{
	return leave_to_stack(packet, packet->has_ports ? answer : drop);
}

static __always_inline enum verdict forward_to_pod(context *ctx, struct packet *packet,
						   const struct local_address *local)
{
	if (packet->ttl <= 1 && !packet->from_node)
		return give_up(packet, VERDICT_ANSWER_TTL_EXPIRED, VERDICT_DROP_TTL_EXPIRED);
	if (may_go_through_stack(packet)) {
		pass_to_stack(ctx, packet);
		return VERDICT_TO_POD;
	}
	if (decrement_ttl(ctx, packet) || write_macs(ctx, packet->ethertype, local->mac, local->host_mac))
		return VERDICT_DROP_REWRITE;
	/* Only a packet that has arrived can be put straight into the pod: the node's own goes through the pod's
	 * veth. */
	if (packet->from_node) {
		write_mark(ctx, MARK_FORWARDED);
		packet->action = redirect_out(local->ifindex);
	} else {
		packet->action = redirect_into_pod(local->ifindex);
	}
	return VERDICT_TO_POD;
}

/* Returns the length that is compared with the route's MTU: that of the IP packet, without padding that a link has put
 * behind it, or of the packets that it will be cut into. 0 where it is unknown or fits everywhere: the kernel then
 * compares with the device's MTU only. */
static __always_inline __u16 routed_bytes(context *ctx, const struct packet *packet)
{
	__u32 min = is_ipv4_packet(packet) ? IPV4_MTU_MIN : IPV6_MTU_MIN;
	__u32 segment = segment_bytes(ctx), bytes = packet->l4_offset - L2_BYTES + packet->l4_bytes;

	if (segment) {
		bytes = packet->l4_offset - L2_BYTES + packet->l4_header_bytes + segment;
		/* The extension header of BIG TCP goes when the packet is cut. */
		if (packet->l4_bytes == L4_BYTES_UNKNOWN && packet->ethertype == bpf_htons(ETH_P_IPV6))
			bytes -= sizeof(struct extension);
	}
	return packet->l4_header_bytes && bytes > min && bytes <= 0xffff ? bytes : 0;
}

static __always_inline void fill_fib(struct bpf_fib_lookup *fib, context *ctx, const struct tuple *tuple, bool ipv4)
{
	fib->ifindex = packet_device(ctx);
	fib->l4_protocol = tuple->protocol;
	fib->sport = tuple->source_port;
	fib->dport = tuple->destination_port;
	if (ipv4) {
		fib->family = AF_INET;
		fib->ipv4_src = tuple->source.word[3];
		fib->ipv4_dst = tuple->destination.word[3];
	} else {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &tuple->source, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &tuple->destination, sizeof(fib->ipv6_dst));
	}
}

/* The packet does not fit the route, with the `added` bytes that it gets. Kernels before 5.12 leave the length as it
 * was and do not say what would fit. */
static __always_inline enum verdict give_up_too_big(struct packet *packet, __u16 bytes, __u16 mtu, __u16 added)
{
	packet->mtu = (!bytes || mtu < bytes) && mtu > added ? mtu - added : 0;
	return give_up(packet, packet->fixed_size ? VERDICT_ANSWER_TOO_BIG : VERDICT_DROP_TOO_BIG,
		       VERDICT_DROP_TOO_BIG);
}

/* Forwards a packet of `bytes` bytes as its next hop is asked for `route`. The caller adds `added` bytes to it
 * afterwards; a `direct` one does not go through the stack. */
static __always_inline enum verdict forward_by_route(context *ctx, struct packet *packet, const struct tuple *route,
						     __u32 bytes, __u16 added, bool direct)
{
	struct bpf_fib_lookup fib = {};
	long result;

	if (packet->ttl <= 1 && !packet->from_node)
		return give_up(packet, VERDICT_ANSWER_TTL_EXPIRED, VERDICT_DROP_TTL_EXPIRED);
	fill_fib(&fib, ctx, route, is_ipv4_packet(packet));
	if (bytes)
		bytes = bytes + added <= 0xffff ? bytes + added : 0xffff;
	fib.tot_len = bytes;
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return give_up_too_big(packet, bytes, fib.mtu_result, added);
	if (!direct && may_go_through_stack(packet)) {
		/* The stack has the last word on routes. It would tell the sender of a packet that is too big what it
		 * sees, which the sender does not know; so that was looked at. */
		pass_to_stack(ctx, packet);
		return VERDICT_TO_NETWORK;
	}
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return leave_to_stack(packet, VERDICT_DROP_NO_ROUTE);
	if (decrement_ttl(ctx, packet) || write_macs(ctx, packet->ethertype, fib.dmac, fib.smac))
		return VERDICT_DROP_REWRITE;
	write_mark(ctx, MARK_FORWARDED);
	/* The route may be known, and the next hop's MAC address not yet: the kernel then resolves it. */
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
		packet->action = redirect_to_neighbour(fib.ifindex, fib.family, fib.ipv6_dst);
	else
		packet->action = redirect_out(fib.ifindex);
	return VERDICT_TO_NETWORK;
}

/* Forwards a packet by the route to its destination, as forward_by_route does. */
static __always_inline enum verdict forward_to_network(context *ctx, struct packet *packet, __u16 added, bool direct)
{
	return forward_by_route(ctx, packet, &packet->tuple, routed_bytes(ctx, packet), added, direct);
}

/* Sends the packet up into the node's own stack by the loopback device: on another device, the stack would take the
 * node's own address for a forged one. */
static __always_inline enum verdict return_to_node(context *ctx, struct packet *packet)
{
	__u8 none[ETH_ALEN] = {};

	if (write_macs(ctx, packet->ethertype, none, none))
		return VERDICT_DROP_REWRITE;
	packet->action = redirect_in(LOOPBACK_IFINDEX);
	return VERDICT_PASS;
}

/* Forwards a packet that was not dropped. `local` is the entry of its destination, NULL if that is not on this node. */
static __always_inline enum verdict forward(context *ctx, enum hook hook, struct packet *packet,
					    const struct local_address *local)
{
	/* What the node itself sends follows the route that the stack has chosen, unless that was chosen for a
	 * service's address: the route to the backend may be another. */
	if (enters_pod(hook) || (sent_by_node(hook) && !packet->moved))
		return VERDICT_PASS;
	if (local && local->kind == LOCAL_POD)
		return forward_to_pod(ctx, packet, local);
	if (packet->in_passage && (local || packet->returns_to_node) && complete_translation(ctx, packet))
		return VERDICT_DROP_REWRITE;
	if (packet->returns_to_node)
		return stays_on_node(hook) ? VERDICT_PASS : return_to_node(ctx, packet);
	/* What the node sends to itself is seen of SCTP only, so only SCTP's replies would find the way back. */
	if (local && leaves_node(hook))
		return packet->tuple.protocol == IPPROTO_SCTP ? return_to_node(ctx, packet) : VERDICT_DROP_NO_ROUTE;
	if (local)
		return VERDICT_PASS;
	if (!packet->translated && (!sent_by_pod(hook) || is_on_link_only(&packet->tuple.destination)))
		return VERDICT_PASS;
	return forward_to_network(ctx, packet, 0, false);
}
