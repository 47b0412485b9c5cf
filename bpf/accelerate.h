/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What XDP does for a packet that goes on to another host: the same as from_uplink (ingress.h), before there is an
 * sk_buff. Everything else passes as it came, and is counted by from_uplink only; so is what only the node's stack can
 * do, such as to resolve a MAC address. So it is decided before the first change whether the packet can leave here. */
#pragma once

#include "balance.h"
#include "route.h"

static __always_inline struct xdp_device *lookup_xdp_device(__u32 ifindex)
{
	__u32 slot = ifindex % XDP_DEVICES;
	struct xdp_device *device = bpf_map_lookup_elem(&xdp_devices, &slot);

	return device && device->ifindex == ifindex ? device : NULL;
}

/* Returns the device of a frame that was sent to its MAC address, or NULL. Others are for another host, or for all. */
static __always_inline struct xdp_device *lookup_receiver(context *ctx)
{
	struct xdp_device *device = lookup_xdp_device(packet_device(ctx));
	struct cursor cursor = readable_bytes(ctx);
	struct ethhdr *ethernet = header_at(&cursor, 0, sizeof(*ethernet));

	return device && ethernet && !__builtin_memcmp(ethernet->h_dest, device->mac, ETH_ALEN) ? device : NULL;
}

/* Is the checksum left to a device? What comes from another network namespace or virtual machine of the same host has
 * the sum of its pseudo header only (CHECKSUM_PARTIAL), or none in SCTP. Only an sk_buff says so for certain. */
static __always_inline bool may_lack_checksum(context *ctx, const struct packet *packet)
{
	const __u32 *word = (const __u32 *)&packet->tuple;
	__u64 sum = (__u64)bpf_htonl(packet->l4_bytes) + bpf_htonl(packet->tuple.protocol);
	__u32 crc;
	__u16 checksum;

	if (packet->tuple.protocol == IPPROTO_SCTP)
		return load_bytes(ctx, packet->l4_offset + SCTP_CHECKSUM_OFFSET, &crc, sizeof(crc)) || !crc;
	if (!has_pseudo_header(packet))
		return false;
	if (load_bytes(ctx, checksum_offset(packet), &checksum, sizeof(checksum)))
		return true;
	for (__u32 i = 0; i < BOTH_ADDRESSES / sizeof(*word); i++)
		sum += word[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return fold(fold((sum & 0xffff) + (sum >> 16))) == checksum;
}

/* How a packet leaves. */
struct next_hop {
	__u32 ifindex; /* 0: the packet leaves by the device that it came in by */
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
};

/* Looks up the next hop of the packet as it will be, with the `added` bytes that it gets. Returns false where it cannot
 * leave by XDP. */
static __always_inline bool find_next_hop(context *ctx, const struct xdp_device *device, const struct packet *packet,
					  const struct tuple *to, __u16 added, struct next_hop *hop)
{
	struct bpf_fib_lookup fib = { .tot_len = packet->l4_offset - L2_BYTES + packet->l4_bytes + added };
	struct xdp_device *out;

	if (packet->ttl <= 1)
		return false;
	fill_fib(&fib, ctx, to, is_ipv4_packet(packet));
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	hop->ifindex = 0;
	if (fib.ifindex != device->ifindex) {
		out = lookup_xdp_device(fib.ifindex);
		if (!out || out->domain == REDIRECT_NONE || out->domain != device->domain)
			return false;
		hop->ifindex = fib.ifindex;
	}
	__builtin_memcpy(hop->destination, fib.dmac, ETH_ALEN);
	__builtin_memcpy(hop->source, fib.smac, ETH_ALEN);
	return true;
}

/* Sends a packet with its new addresses to its next hop. */
static __always_inline enum verdict leave(context *ctx, struct packet *packet, const struct next_hop *hop)
{
	if (decrement_ttl(ctx, packet) || write_macs(ctx, packet->ethertype, hop->destination, hop->source))
		return VERDICT_DROP_REWRITE;
	packet->action = hop->ifindex ? redirect_out(hop->ifindex) : send_back(ctx);
	return VERDICT_TO_NETWORK;
}

static __always_inline enum verdict send_on(context *ctx, struct packet *packet, const struct tuple *to,
					    const struct next_hop *hop)
{
	return rewrite_packet(ctx, packet, to) ? VERDICT_DROP_REWRITE : leave(ctx, packet, hop);
}

/* Is the address one of this node or its pods? A confirmed flow remembers it, since its flags change no more. */
static __always_inline bool leads_here(struct flow *flow, const struct tuple *to)
{
	if (flow->flags & FLOW_FLAG_STAYS)
		return true;
	if (!lookup_local_address(&to->destination))
		return false;
	if (!(flow->flags & FLOW_FLAG_OPENING))
		flow->flags |= FLOW_FLAG_STAYS;
	return true;
}

/* A packet of a known connection. */
static __always_inline enum verdict follow_flow(context *ctx, const struct xdp_device *device, struct packet *packet,
						struct flow *flow, __u64 now)
{
	struct tuple to = flow_target(flow, packet->tuple.protocol);
	struct next_hop hop;

	if (leads_here(flow, &to) || may_lack_checksum(ctx, packet) ||
	    !find_next_hop(ctx, device, packet, &to, 0, &hop))
		return VERDICT_PASS;
	return refresh_flow(ctx, flow, packet, now) ? send_on(ctx, packet, &to, &hop) : VERDICT_PASS;
}

/* Opens a connection to a service whose backend is on another node. Where its packet cannot leave by XDP after all,
 * from_uplink finds a known connection. What no service or backend takes, from_uplink judges. */
static __always_inline enum verdict open_connection(context *ctx, const struct xdp_device *device,
						    struct packet *packet, __u64 now)
{
	struct local_address *local = lookup_local_address(&packet->tuple.destination);
	struct service *service = lookup_service(packet, local);
	struct scratch *scratch = this_scratch();
	struct new_flow new;
	struct next_hop hop;
	enum verdict verdict;
	struct tuple *to;

	if (!service || !scratch || may_lack_checksum(ctx, packet) || is_foreign(HOOK_XDP, packet))
		return VERDICT_PASS;
	new = plan_new(ctx, HOOK_XDP, packet, service, &local);
	if (new.verdict == VERDICT_DSR)
		return VERDICT_DSR;
	if (!new.backend_address || local)
		return VERDICT_PASS;
	verdict = open_flow(ctx, scratch, packet, &new, now);
	if (verdict != VERDICT_PASS)
		return verdict;
	to = &scratch->nat.received; /* it has served its purpose, and the stack is short */
	*to = flow_target(&scratch->nat.forward, packet->tuple.protocol);
	return find_next_hop(ctx, device, packet, to, 0, &hop) ? send_on(ctx, packet, to, &hop) : VERDICT_PASS;
}

/* A packet with ports. A segment whose entry is lost is from_uplink's: it opens the connection again. Returns
 * VERDICT_DSR where another part sends it. */
static __always_inline enum verdict accelerate_packet(context *ctx, const struct xdp_device *device,
						      struct packet *packet)
{
	__u64 now = now_ns();
	struct flow *flow = lookup_flow(packet, now);

	if (flow && (flow->flags & FLOW_FLAG_DSR))
		return flow->direction == FLOW_FORWARD ? VERDICT_DSR : VERDICT_PASS;
	if (flow)
		return follow_flow(ctx, device, packet, flow, now);
	return may_be_new(packet) ? open_connection(ctx, device, packet, now) : VERDICT_PASS;
}

/* A packet without ports: an ICMP error about a packet that was translated here. */
static __always_inline enum verdict accelerate_error(context *ctx, const struct xdp_device *device,
						     struct packet *packet)
{
	struct scratch *scratch = this_scratch();
	struct next_hop hop;
	struct tuple to;

	if (!scratch || packet->fragment || !has_error_type(ctx, packet) || is_foreign(HOOK_XDP, packet) ||
	    !plan_icmp_error(ctx, packet, &scratch->icmp, &to) || lookup_local_address(&to.destination) ||
	    !find_next_hop(ctx, device, packet, &to, 0, &hop))
		return VERDICT_PASS;
	if (rewrite_quoted(ctx, packet, &scratch->icmp) || rewrite_addresses(ctx, packet, &to))
		return VERDICT_DROP_REWRITE;
	return leave(ctx, packet, &hop);
}
