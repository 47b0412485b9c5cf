/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes once it is what it should be: into a pod, out to the network, or to the node's own stack.
 * Redirects pass by netfilter and rp_filter; a router's duties (TTL, MAC addresses, next hop) are therefore ours. */
#pragma once

#include "answer.h"
#include "skb.h"
#include "service.h"
#include "finish.h"

#define AF_INET 2
#define AF_INET6 10
#define LOOPBACK_IFINDEX 1 /* in every network namespace */

/* The packet cannot be forwarded here. As it came, the node's stack may still know what to do (or tell the sender
 * why not); once translated it would be misunderstood. */
static __always_inline enum verdict leave_to_stack(const struct packet *packet, enum verdict reason)
{
	return packet->translated ? reason : VERDICT_PASS;
}

/* The same, where the sender of a translated packet can be told why. */
static __always_inline enum verdict give_up(const struct packet *packet, enum verdict answer, enum verdict drop)
{
	return leave_to_stack(packet, packet->has_ports ? answer : drop);
}

static __always_inline enum verdict forward_to_pod(context *ctx, struct packet *packet, const struct local_address *local)
{
	if (packet->ttl <= 1 && !packet->own)
		return give_up(packet, VERDICT_ANSWER_TTL_EXPIRED, VERDICT_DROP_TTL_EXPIRED);
	if (decrement_ttl(ctx, packet) || write_macs(ctx, local->mac, local->host_mac))
		return VERDICT_DROP_REWRITE;
	/* Only a packet that has arrived can be put straight into the pod: the node's own goes through its veth. */
	if (packet->own) {
		ctx->mark = MARK_FORWARDED;
		packet->action = bpf_redirect(local->ifindex, 0);
	} else {
		packet->action = bpf_redirect_peer(local->ifindex, 0);
	}
	return VERDICT_TO_POD;
}

/* The length that the way's MTU is compared with: of the IP packet, or of those that it will be cut into. 0 where that is
 * unknown, or fits everywhere: the kernel then looks only at what the device takes. */
static __always_inline __u16 routed_bytes(context *ctx, const struct packet *packet)
{
	__u32 min = packet->ethertype == bpf_htons(ETH_P_IP) ? IPV4_MTU_MIN : IPV6_MTU_MIN;
	__u32 segment = ctx->gso_size, bytes = ctx->len - ETH_HLEN;

	if (segment) {
		bytes = packet->l4_offset - ETH_HLEN + packet->l4_header_bytes + segment;
		/* The header of BIG TCP goes when the packet is cut. */
		if (packet->l4_bytes == L4_BYTES_UNKNOWN && packet->ethertype == bpf_htons(ETH_P_IPV6))
			bytes -= sizeof(struct extension);
	}
	return packet->l4_header_bytes && bytes > min && bytes <= 0xffff ? bytes : 0;
}

static __always_inline void fill_fib(struct bpf_fib_lookup *fib, context *ctx, const struct packet *packet)
{
	const struct tuple *tuple = &packet->tuple;

	fib->ifindex = ctx->ifindex;
	fib->l4_protocol = tuple->protocol;
	fib->sport = tuple->source_port;
	fib->dport = tuple->destination_port;
	if (packet->ethertype == bpf_htons(ETH_P_IP)) {
		fib->family = AF_INET;
		fib->ipv4_src = tuple->source.word[3];
		fib->ipv4_dst = tuple->destination.word[3];
	} else {
		fib->family = AF_INET6;
		__builtin_memcpy(fib->ipv6_src, &tuple->source, sizeof(fib->ipv6_src));
		__builtin_memcpy(fib->ipv6_dst, &tuple->destination, sizeof(fib->ipv6_dst));
	}
}

/* The route is known, the next hop's MAC address not yet: the kernel resolves it and sends the packet. */
static __always_inline int redirect_to_next_hop(const struct bpf_fib_lookup *fib)
{
	struct bpf_redir_neigh next_hop = { .nh_family = fib->family };

	__builtin_memcpy(next_hop.ipv6_nh, fib->ipv6_dst, sizeof(next_hop.ipv6_nh));
	return bpf_redirect_neigh(fib->ifindex, &next_hop, sizeof(next_hop), 0);
}

/* The packet does not fit. Kernels before 5.12 do not say what would, and leave the length as it was. */
static __always_inline enum verdict give_up_too_big(struct packet *packet, __u16 bytes, __u16 mtu)
{
	packet->mtu = !bytes || mtu < bytes ? mtu : 0;
	return give_up(packet, packet->fixed_size ? VERDICT_ANSWER_TOO_BIG : VERDICT_DROP_TOO_BIG,
		       VERDICT_DROP_TOO_BIG);
}

static __always_inline enum verdict forward_to_network(context *ctx, struct packet *packet)
{
	struct bpf_fib_lookup fib = {};
	__u16 bytes;
	long result;

	if (packet->ttl <= 1 && !packet->own)
		return give_up(packet, VERDICT_ANSWER_TTL_EXPIRED, VERDICT_DROP_TTL_EXPIRED);
	fill_fib(&fib, ctx, packet);
	bytes = routed_bytes(ctx, packet);
	fib.tot_len = bytes;
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return give_up_too_big(packet, bytes, fib.mtu_result);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return leave_to_stack(packet, VERDICT_DROP_NO_ROUTE);
	if (decrement_ttl(ctx, packet))
		return VERDICT_DROP_REWRITE;
	ctx->mark = MARK_FORWARDED;
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH) {
		packet->action = redirect_to_next_hop(&fib);
		return VERDICT_TO_NETWORK;
	}
	if (write_macs(ctx, fib.dmac, fib.smac))
		return VERDICT_DROP_REWRITE;
	packet->action = bpf_redirect(fib.ifindex, 0);
	return VERDICT_TO_NETWORK;
}

/* Up into the node's own stack by the loopback device: by another, it would take its own address for a forged one. */
static __always_inline enum verdict return_to_self(context *ctx, struct packet *packet)
{
	__u8 none[ETH_ALEN] = {};

	if (write_macs(ctx, none, none))
		return VERDICT_DROP_REWRITE;
	packet->action = bpf_redirect(LOOPBACK_IFINDEX, BPF_F_INGRESS);
	return VERDICT_PASS;
}

/* Forwards what was not dropped, as is the custom at each hook. `local` is what lives at the packet's destination, NULL if
 * that is elsewhere. */
static __always_inline enum verdict forward(context *ctx, enum hook hook, struct packet *packet,
					    const struct local_address *local)
{
	/* What the node itself sends goes its way, unless that was chosen for the service's address: the backend's may be
	 * another. */
	if (hook == HOOK_TO_POD || (hook > HOOK_FROM_UPLINK && !packet->moved))
		return VERDICT_PASS;
	if (local && local->kind == LOCAL_POD)
		return forward_to_pod(ctx, packet, local);
	if (packet->to_self)
		return hook == HOOK_TO_SELF ? VERDICT_PASS : return_to_self(ctx, packet);
	/* What the node sends itself is only seen of SCTP, so that only its replies would find back. */
	if (local && hook == HOOK_TO_UPLINK)
		return packet->tuple.protocol == IPPROTO_SCTP ? return_to_self(ctx, packet) : VERDICT_DROP_NO_ROUTE;
	if (local)
		return VERDICT_PASS;
	if (hook == HOOK_FROM_POD ? is_on_link_only(&packet->tuple.destination) : !packet->translated)
		return VERDICT_PASS;
	return forward_to_network(ctx, packet);
}

/* Counts the outcome and turns it into what the tc hook returns, or the step that makes an answer. */
static __always_inline int finish(context *ctx, enum hook hook, const struct packet *packet, enum verdict verdict)
{
	count(hook, verdict, packet_bytes(ctx));
	if (verdict > VERDICT_ANSWER)
		return STEP_ANSWER | verdict | packet->mtu << STEP_MTU_SHIFT;
	if (verdict > VERDICT_DROP || verdict == VERDICT_QUEUED)
		return TC_ACT_SHOT;
	return packet->action | (packet->awaited ? STEP_RELEASE : 0);
}
