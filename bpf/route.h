/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes once it is what it should be: into a pod, out to the network, or to the node's own stack.
 * Redirects pass by netfilter and rp_filter; a router's duties (TTL, MAC addresses, next hop) are therefore ours. */
#pragma once

#include "reject.h"
#include "skb.h"
#include "service.h"
#include "verdict.h"

#define AF_INET 2
#define AF_INET6 10

/* Set on packets that were redirected to a device, so that the device's own hook lets them be. */
#define MARK_FORWARDED 0x4b500000

/* The packet cannot be forwarded here. As it came, the node's stack may still know what to do (or tell the sender
 * why not); once translated it would be misunderstood. */
static __always_inline enum verdict leave_to_stack(const struct packet *packet, enum verdict reason)
{
	return packet->translated ? reason : VERDICT_PASS;
}

static __always_inline enum verdict forward_to_pod(context *ctx, struct packet *packet, const struct endpoint *endpoint)
{
	if (packet->ttl <= 1 && !packet->own)
		return leave_to_stack(packet, VERDICT_DROP_TTL_EXPIRED);
	if (decrement_ttl(ctx, packet) || write_macs(ctx, endpoint->mac, endpoint->host_mac))
		return VERDICT_DROP_REWRITE;
	packet->action = bpf_redirect_peer(endpoint->ifindex, 0);
	return VERDICT_TO_POD;
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

static __always_inline enum verdict forward_to_network(context *ctx, struct packet *packet)
{
	struct bpf_fib_lookup fib = {};
	long result;

	if (packet->ttl <= 1 && !packet->own)
		return leave_to_stack(packet, VERDICT_DROP_TTL_EXPIRED);
	fill_fib(&fib, ctx, packet);
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return leave_to_stack(packet, VERDICT_DROP_TOO_BIG);
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

/* Tells the sender that nothing serves it: out of the device that the packet came in by, or up to the node's stack. */
static __always_inline int refuse(context *ctx, enum hook hook, const struct packet *packet)
{
	if (answer_unreachable(ctx, packet))
		return TC_ACT_SHOT;
	ctx->mark = MARK_FORWARDED;
	return bpf_redirect(ctx->ifindex, hook == HOOK_TO_UPLINK ? BPF_F_INGRESS : 0);
}

/* Counts the outcome and turns it into what the tc hook returns. */
static __always_inline int finish(context *ctx, enum hook hook, const struct packet *packet, enum verdict verdict)
{
	count(hook, verdict, packet_bytes(ctx));
	if (verdict > VERDICT_ANSWER)
		return refuse(ctx, hook, packet);
	if (verdict > VERDICT_DROP)
		return TC_ACT_SHOT;
	return verdict == VERDICT_PASS ? TC_ACT_OK : packet->action;
}
