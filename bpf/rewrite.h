/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a tc hook does to its packet. The helpers keep checksums right whether or not the sender left them to
 * the device (CHECKSUM_PARTIAL). An XDP hook needs a header with these same functions, and nothing else. */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "crc32c.h"
#include "packet.h"

#define IPV4_TTL_OFFSET (ETH_HLEN + offsetof(struct iphdr, ttl))
#define IPV4_CHECKSUM_OFFSET (ETH_HLEN + offsetof(struct iphdr, check))
#define IPV4_ADDRESSES_OFFSET (ETH_HLEN + offsetof(struct iphdr, saddr))
#define IPV6_HOP_LIMIT_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, hop_limit))
#define IPV6_ADDRESSES_OFFSET (ETH_HLEN + offsetof(struct ipv6hdr, saddr))
#define ICMP_CHECKSUM_OFFSET 2
#define CHECKSUM_IPV6 (1ULL << 7) /* BPF_F_IPV6, newer than some headers */
#define HEADERS_BYTES 128 /* as much as is made readable: Ethernet, IPv6 with a few extensions, TCP */

static __always_inline struct cursor read_context(context *ctx)
{
	if (ctx->data_end - ctx->data < HEADERS_BYTES && ctx->len > ctx->data_end - ctx->data)
		bpf_skb_pull_data(ctx, ctx->len < HEADERS_BYTES ? ctx->len : HEADERS_BYTES);
	return (struct cursor){ (void *)(long)ctx->data, (void *)(long)ctx->data_end };
}

static __always_inline __u32 packet_bytes(context *ctx)
{
	return ctx->len;
}

/* Copies the whole packet. Returns false where there is no room for it. */
static __always_inline bool copy_frame(context *ctx, struct queued_fragment *frame)
{
	__u32 length = ctx->len;

	if (length < ETH_HLEN || length > QUEUED_FRAGMENT_BYTES)
		return false;
	frame->length = length;
	return !bpf_skb_load_bytes(ctx, 0, frame->bytes, length);
}

/* Makes the packet one that was copied. */
static __always_inline bool become_frame(context *ctx, const struct queued_fragment *frame)
{
	__u32 length = frame->length;

	if (length < ETH_HLEN || length > QUEUED_FRAGMENT_BYTES)
		return false;
	return !bpf_skb_change_tail(ctx, length, 0) &&
	       !bpf_skb_store_bytes(ctx, 0, frame->bytes, length, BPF_F_RECOMPUTE_CSUM);
}

/* Has a copy of the packet arrive at the device once more, after this one. */
static __always_inline void queue_copy(context *ctx)
{
	bpf_clone_redirect(ctx, ctx->ifindex, BPF_F_INGRESS);
}

static __always_inline __u32 checksum_offset(const struct packet *packet)
{
	__u32 offset = ICMP_CHECKSUM_OFFSET;

	if (packet->tuple.protocol == IPPROTO_TCP)
		offset = offsetof(struct tcphdr, check);
	if (packet->tuple.protocol == IPPROTO_UDP)
		offset = offsetof(struct udphdr, check);
	return packet->l4_offset + offset;
}

/* Does a checksum in the packet cover the addresses, beside the IP header's (RFC 9293, RFC 768, RFC 4443)? SCTP's covers its
 * own bytes only, and that of a datagram in pieces is in the first one. */
static __always_inline bool has_pseudo_header(const struct packet *packet)
{
	if (packet->later_fragment)
		return false;
	return packet->tuple.protocol == IPPROTO_TCP || packet->tuple.protocol == IPPROTO_UDP ||
	       packet->tuple.protocol == IPPROTO_ICMPV6;
}

static __always_inline int rewrite_ipv4(context *ctx, const struct packet *packet, const struct tuple *to, __u64 flags)
{
	__be32 old[2] = { packet->tuple.source.word[3], packet->tuple.destination.word[3] };
	__be32 new[2] = { to->source.word[3], to->destination.word[3] };
	__s64 difference = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);

	if (bpf_l3_csum_replace(ctx, IPV4_CHECKSUM_OFFSET, 0, difference, 0))
		return -1;
	if (has_pseudo_header(packet) &&
	    bpf_l4_csum_replace(ctx, checksum_offset(packet), 0, difference, BPF_F_PSEUDO_HDR | flags))
		return -1;
	return bpf_skb_store_bytes(ctx, IPV4_ADDRESSES_OFFSET, new, sizeof(new), 0);
}

static __always_inline int rewrite_ipv6(context *ctx, const struct packet *packet, const struct tuple *to, __u64 flags)
{
	__s64 difference = bpf_csum_diff((__be32 *)&packet->tuple, 2 * sizeof(struct address), (__be32 *)to,
					 2 * sizeof(struct address), 0);

	if (!has_pseudo_header(packet))
		return bpf_skb_store_bytes(ctx, IPV6_ADDRESSES_OFFSET, to, 2 * sizeof(struct address),
					   BPF_F_RECOMPUTE_CSUM);
	flags |= BPF_F_PSEUDO_HDR;
	/* IPv6 has no header checksum that would make up for the addresses in a sum that the device has taken over the
	 * packet. The kernel knows that since 6.16 (and in stable ones), and refuses the flag before it changes anything
	 * elsewhere. */
	if (bpf_l4_csum_replace(ctx, checksum_offset(packet), 0, difference, flags | CHECKSUM_IPV6) &&
	    bpf_l4_csum_replace(ctx, checksum_offset(packet), 0, difference, flags))
		return -1;
	return bpf_skb_store_bytes(ctx, IPV6_ADDRESSES_OFFSET, to, 2 * sizeof(struct address), 0);
}

/* As they are in the transport header. */
static __always_inline __u32 both_ports(const struct tuple *tuple)
{
	__be16 ports[2] = { tuple->source_port, tuple->destination_port };
	__u32 both;

	__builtin_memcpy(&both, ports, sizeof(both));
	return both;
}

/* Other ports, whose change the checksum has to follow. */
static __always_inline int rewrite_ports(context *ctx, const struct packet *packet, __u32 old, __u32 new, __u64 flags)
{
	__u32 offset = packet->l4_offset, checksum;

	if (packet->tuple.protocol == IPPROTO_SCTP) {
		__u32 at = offset + offsetof(struct sctp_header, checksum);

		if (packet->l4_bytes == L4_BYTES_UNKNOWN)
			return -1;
		if (bpf_skb_load_bytes(ctx, at, &checksum, sizeof(checksum)))
			return -1;
		checksum ^= crc32c_change(old ^ new, packet->l4_bytes);
		if (bpf_skb_store_bytes(ctx, at, &checksum, sizeof(checksum), BPF_F_RECOMPUTE_CSUM))
			return -1;
		return bpf_skb_store_bytes(ctx, offset, &new, sizeof(new), BPF_F_RECOMPUTE_CSUM);
	}
	if (bpf_l4_csum_replace(ctx, checksum_offset(packet), old, new, sizeof(new) | flags))
		return -1;
	return bpf_skb_store_bytes(ctx, offset, &new, sizeof(new), 0);
}

/* A UDP checksum of zero means "none" (RFC 768) and stays zero. */
static __always_inline __u64 checksum_flags(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

/* Gives a packet without ports other addresses, of the same family. Returns 0, or negative with the packet in an unusable
 * state. */
static __always_inline int rewrite_addresses(context *ctx, struct packet *packet, const struct tuple *to)
{
	__u64 flags = checksum_flags(packet);
	int error;

	if (packet->ethertype == bpf_htons(ETH_P_IP))
		error = rewrite_ipv4(ctx, packet, to, flags);
	else
		error = rewrite_ipv6(ctx, packet, to, flags);
	if (error)
		return error;
	packet->moved |= !same_address(&packet->tuple.destination, &to->destination);
	packet->tuple = *to;
	packet->translated = true;
	return 0;
}

/* The same with ports, of the same protocol, where it has any. */
static __always_inline int rewrite_packet(context *ctx, struct packet *packet, const struct tuple *to)
{
	__u32 before = both_ports(&packet->tuple), after = both_ports(to);

	if (rewrite_addresses(ctx, packet, to))
		return -1;
	return packet->has_ports && before != after ? rewrite_ports(ctx, packet, before, after, checksum_flags(packet))
						    : 0;
}

static __always_inline int write_ttl(context *ctx, const struct packet *packet, __u8 ttl)
{
	if (packet->ethertype == bpf_htons(ETH_P_IP)) {
		/* TTL is the high byte of its 16-bit word, whatever the protocol beside it. */
		__be16 old = bpf_htons(packet->ttl << 8), new = bpf_htons(ttl << 8);

		if (bpf_l3_csum_replace(ctx, IPV4_CHECKSUM_OFFSET, old, new, sizeof(new)))
			return -1;
		return bpf_skb_store_bytes(ctx, IPV4_TTL_OFFSET, &ttl, sizeof(ttl), 0);
	}
	return bpf_skb_store_bytes(ctx, IPV6_HOP_LIMIT_OFFSET, &ttl, sizeof(ttl), BPF_F_RECOMPUTE_CSUM);
}

/* In IPv4 the header's checksum changes as well, and with both a device's sum of the packet is as before. */
static __always_inline int decrement_ipv4_ttl(context *ctx)
{
	struct iphdr *ip = (void *)(long)ctx->data + ETH_HLEN;
	__u32 sum;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return -1;
	sum = ip->check + bpf_htons(0x0100);
	ip->check = sum + (sum >= 0xffff);
	ip->ttl--;
	return 0;
}

static __always_inline int decrement_hop_limit(context *ctx)
{
	struct ipv6hdr *ip = (void *)(long)ctx->data + ETH_HLEN;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
		return -1;
	ip->hop_limit--;
	bpf_csum_update(ctx, (__u16)~bpf_htons(1)); /* of no effect where no device has summed the packet */
	return 0;
}

/* A router's duty (RFC 1812 section 5.3.1): one hop less. The caller has seen that ttl > 1. Written into the packet itself,
 * like the MAC addresses: that costs less than helpers do. */
static __always_inline int decrement_ttl(context *ctx, const struct packet *packet)
{
	if (packet->own)
		return 0;
	return packet->ethertype == bpf_htons(ETH_P_IP) ? decrement_ipv4_ttl(ctx) : decrement_hop_limit(ctx);
}

static __always_inline int write_macs(context *ctx, const __u8 *destination, const __u8 *source)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return -1;
	__builtin_memcpy(ethernet->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, source, ETH_ALEN);
	return 0;
}
