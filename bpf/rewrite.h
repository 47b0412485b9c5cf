/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Changes addresses, ports, TTL and MAC addresses of a packet, and keeps its checksums right. */
#pragma once

#include "crc32c.h"
#include "packet.h"

#define IPV4_TTL_OFFSET (L2_BYTES + offsetof(struct iphdr, ttl))
#define IPV4_CHECKSUM_OFFSET (L2_BYTES + offsetof(struct iphdr, check))
#define IPV4_ADDRESSES_OFFSET (L2_BYTES + offsetof(struct iphdr, saddr))
#define IPV6_HOP_LIMIT_OFFSET (L2_BYTES + offsetof(struct ipv6hdr, hop_limit))
#define IPV6_ADDRESSES_OFFSET (L2_BYTES + offsetof(struct ipv6hdr, saddr))
#define ICMP_CHECKSUM_OFFSET 2

static __always_inline __u32 checksum_offset(const struct packet *packet)
{
	__u32 offset = ICMP_CHECKSUM_OFFSET;

	if (packet->tuple.protocol == IPPROTO_TCP)
		offset = offsetof(struct tcphdr, check);
	if (packet->tuple.protocol == IPPROTO_UDP)
		offset = offsetof(struct udphdr, check);
	return packet->l4_offset + offset;
}

/* Does a checksum in the packet cover the addresses, beside the IP header's (RFC 9293, RFC 768, RFC 4443)? SCTP's
 * covers SCTP's bytes only, and the first fragment has that of a fragmented datagram. */
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

	if (replace_l3_checksum(ctx, IPV4_CHECKSUM_OFFSET, 0, difference, 0))
		return -1;
	if (has_pseudo_header(packet) &&
	    replace_l4_checksum(ctx, checksum_offset(packet), 0, difference, BPF_F_PSEUDO_HDR | flags))
		return -1;
	return store_bytes(ctx, IPV4_ADDRESSES_OFFSET, new, sizeof(new));
}

/* Returns what a change of addresses changes in a checksum. IPv4's are in the last words; the others stay. */
static __always_inline __s64 addresses_difference(const struct tuple *from, const struct tuple *to)
{
	return bpf_csum_diff((__be32 *)from, BOTH_ADDRESSES, (__be32 *)to, BOTH_ADDRESSES, 0);
}

static __always_inline int rewrite_ipv6(context *ctx, const struct packet *packet, const struct tuple *to, __u64 flags)
{
	__s64 difference = addresses_difference(&packet->tuple, to);

	if (!has_pseudo_header(packet))
		return store_summed(ctx, IPV6_ADDRESSES_OFFSET, to, BOTH_ADDRESSES);
	if (replace_ipv6_addresses_checksum(ctx, checksum_offset(packet), difference, flags | BPF_F_PSEUDO_HDR))
		return -1;
	return store_bytes(ctx, IPV6_ADDRESSES_OFFSET, to, BOTH_ADDRESSES);
}

/* Both ports as they stand in the transport header. */
static __always_inline __u32 both_ports(const struct tuple *tuple)
{
	__be16 ports[2] = { tuple->source_port, tuple->destination_port };
	__u32 both;

	__builtin_memcpy(&both, ports, sizeof(both));
	return both;
}

/* Stores both ports; an echo message has one of them, its identifier. */
static __always_inline int store_ports(context *ctx, __u8 protocol, __u32 offset, __u32 ports)
{
	if (!is_icmp_protocol(protocol))
		return store_bytes(ctx, offset, &ports, sizeof(ports));
	ports |= ports << 16 | ports >> 16;
	return store_bytes(ctx, offset + offsetof(struct icmp_echo, identifier), &ports, sizeof(__be16));
}

/* Writes both ports, in a transport header whose ports are `old`, and updates its checksum. */
static __always_inline int rewrite_ports(context *ctx, const struct packet *packet, __u32 old, __u32 new, __u64 flags)
{
	__u32 offset = packet->l4_offset, checksum;

	if (packet->tuple.protocol == IPPROTO_SCTP) {
		__u32 at = offset + SCTP_CHECKSUM_OFFSET;

		if (packet->l4_bytes == L4_BYTES_UNKNOWN || load_bytes(ctx, at, &checksum, sizeof(checksum)))
			return -1;
		checksum ^= crc32c_change(old ^ new, packet->l4_bytes);
		if (store_summed(ctx, at, &checksum, sizeof(checksum)))
			return -1;
		return store_summed(ctx, offset, &new, sizeof(new));
	}
	if (replace_l4_checksum(ctx, checksum_offset(packet), old, new, sizeof(new) | flags))
		return -1;
	return store_ports(ctx, packet->tuple.protocol, offset, new);
}

/* A UDP checksum of zero means "none" (RFC 768) and stays zero. */
static __always_inline __u64 checksum_flags(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

/* Gives a packet other addresses, of the same family. Returns 0, or negative with the packet in an unusable state. */
static __always_inline int rewrite_addresses(context *ctx, struct packet *packet, const struct tuple *to)
{
	__u64 flags = checksum_flags(packet);
	bool ipv4 = is_ipv4_packet(packet);

	if (ipv4 ? rewrite_ipv4(ctx, packet, to, flags) : rewrite_ipv6(ctx, packet, to, flags))
		return -1;
	packet->moved |= !same_address(&packet->tuple.destination, &to->destination);
	packet->tuple = *to;
	packet->translated = true;
	return 0;
}

/* Gives a packet other addresses and, where it has any, other ports. Returns as rewrite_addresses does. */
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
	if (is_ipv4_packet(packet)) {
		/* TTL is the high byte of its 16-bit word, whatever the protocol beside it. */
		__be16 old = bpf_htons(packet->ttl << 8), new = bpf_htons(ttl << 8);

		if (replace_l3_checksum(ctx, IPV4_CHECKSUM_OFFSET, old, new, sizeof(new)))
			return -1;
		return store_bytes(ctx, IPV4_TTL_OFFSET, &ttl, sizeof(ttl));
	}
	return store_summed(ctx, IPV6_HOP_LIMIT_OFFSET, &ttl, sizeof(ttl));
}

/* Decrements the TTL of a packet that the node forwards as a router (RFC 1812 section 5.3.1). The caller has seen that
 * ttl > 1. Direct writes into the packet, as for MAC addresses, cost less than helpers. */
static __always_inline int decrement_ttl(context *ctx, const struct packet *packet)
{
	struct cursor cursor = readable_bytes(ctx);
	struct iphdr *ipv4 = header_at(&cursor, L2_BYTES, sizeof(*ipv4));
	struct ipv6hdr *ipv6 = header_at(&cursor, L2_BYTES, sizeof(*ipv6));
	__u32 sum;

	if (packet->from_node)
		return 0;
	if (!is_ipv4_packet(packet)) {
		if (!ipv6)
			return -1;
		ipv6->hop_limit--;
		add_to_device_sum(ctx, (__u16)~bpf_htons(1));
		return 0;
	}
	if (!ipv4)
		return -1;
	/* Checksum and TTL together leave a device's sum of the packet unchanged (RFC 1624). */
	sum = ipv4->check + bpf_htons(0x0100);
	ipv4->check = sum + (sum >= 0xffff);
	ipv4->ttl--;
	return 0;
}

/* Gives a packet that is complete the MAC addresses that it goes on with, and an Ethernet header where it has none. The
 * kernel takes that off again where the packet goes on by a device without such headers. */
static __always_inline int write_macs(context *ctx, __be16 ethertype, const __u8 *destination, const __u8 *source)
{
	struct ethhdr *ethernet;
	struct cursor cursor;

	if (!L2_BYTES && prepend_room(ctx, sizeof(*ethernet)))
		return -1;
	cursor = readable_bytes(ctx);
	ethernet = header_at(&cursor, 0, sizeof(*ethernet));
	if (!ethernet)
		return -1;
	__builtin_memcpy(ethernet->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, source, ETH_ALEN);
	if (!L2_BYTES)
		ethernet->h_proto = ethertype;
	return 0;
}

/* Turns a packet round that leaves by the device that it came in by. */
static __always_inline int swap_macs(context *ctx)
{
	__u8 macs[2 * ETH_ALEN];

	return L2_BYTES && (load_bytes(ctx, 0, macs, sizeof(macs)) || write_macs(ctx, 0, macs + ETH_ALEN, macs));
}
