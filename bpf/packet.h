/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is known of a packet, and how its headers are parsed: Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200), TCP, UDP,
 * SCTP. */
#pragma once

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "address.h"
#include "config.h"
#include "context.h"
#include "cursor.h"
#include "echo.h"
#include "kubypass.h"

#define MAX_EXTENSION_HEADERS 6
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_DO_NOT_FRAGMENT 0x4000
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_FLAGS_OFFSET 13

#define SCTP_HEADER_BYTES 12 /* RFC 9260 section 3.1 */
#define SCTP_CHECKSUM_OFFSET 8

#define BOTH_ADDRESSES (2 * sizeof(struct address)) /* with which a tuple begins, and an IPv6 header ends */
#define L4_BYTES_UNKNOWN 0xffff /* BIG TCP (RFC 2675): the length does not fit, and is zero in the IP header */

/* What every host accepts (RFC 1122 section 3.3.2, RFC 8200 section 5): no ICMP error is longer. */
#define IPV4_MTU_MIN 576
#define IPV6_MTU_MIN 1280

struct packet {
	struct tuple tuple; /* current addresses and ports: a rewrite updates them */
	__be32 identification; /* of a fragmented datagram */
	__u32 sequence; /* of TCP */
	__u32 acknowledgment; /* of TCP */
	__u32 mtu; /* of the route, where the packet is too big for it; 0: unknown */
	int action; /* what the hook returns after a redirect */
	__be16 ethertype;
	__u16 l4_offset; /* from the first byte, which is the Ethernet header's where there is one */
	__u16 l4_bytes; /* as the IP header says, or L4_BYTES_UNKNOWN */
	__u8 ttl;
	__u8 tcp_flags;
	__u8 l4_header_bytes; /* of TCP, UDP and echo messages */
	bool has_ports; /* TCP, UDP or SCTP with its ports in this packet; an echo message where these are tracked */
	bool fragment; /* a fragment of a datagram */
	bool later_fragment; /* not the first one */
	bool awaited; /* the first fragment, and later ones are queued for it */
	bool fixed_size; /* no router may fragment it */
	bool translated;
	bool moved; /* to another destination address */
	bool from_node; /* the node itself sends it: no router has forwarded it */
	bool returns_to_node; /* a reply to the node, from an address that is also the node's */
	bool echo_reply;
	bool in_passage; /* its source is still to be translated: `passage` of `scratch` tells it */
};

static __always_inline bool is_ipv4_packet(const struct packet *packet)
{
	return packet->ethertype == bpf_htons(ETH_P_IP);
}

enum parse_result {
	PARSE_IP,
	PARSE_OTHER, /* not IP */
	PARSE_MALFORMED,
};

/* Before Linux 5.14, tunnels show us their outer headers: what cannot be read is none of ours there. */
#define UNREADABLE (L2_BYTES ? PARSE_MALFORMED : PARSE_OTHER)

/* Returns the transport header, or NULL where the packet is shorter, by its bytes or by its IP header. */
static __always_inline void *l4_header(const struct cursor *cursor, const struct packet *packet, __u32 size)
{
	return packet->l4_bytes < size ? NULL : header_at(cursor, packet->l4_offset & OFFSET_MASK, size);
}

static __always_inline void parse_echo(const struct cursor *cursor, struct packet *packet)
{
	bool ipv6 = packet->tuple.protocol == IPPROTO_ICMPV6;
	struct icmp_echo *icmp = l4_header(cursor, packet, sizeof(*icmp));

	if (!icmp || ipv6 != (packet->ethertype == bpf_htons(ETH_P_IPV6)) || !set_echo_ports(&packet->tuple, icmp))
		return;
	packet->l4_header_bytes = sizeof(*icmp);
	packet->has_ports = true;
	packet->echo_reply = icmp->type == (ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY);
}

static __always_inline enum parse_result parse_ports(const struct cursor *cursor, struct packet *packet)
{
	__be16 *ports;

	if (packet->tuple.protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = l4_header(cursor, packet, sizeof(*tcp));

		if (!tcp)
			return PARSE_MALFORMED;
		packet->l4_header_bytes = tcp->doff * 4;
		packet->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
		packet->sequence = bpf_ntohl(tcp->seq);
		packet->acknowledgment = bpf_ntohl(tcp->ack_seq);
		ports = (__be16 *)tcp;
	} else if (packet->tuple.protocol == IPPROTO_UDP) {
		packet->l4_header_bytes = sizeof(struct udphdr);
		ports = l4_header(cursor, packet, sizeof(struct udphdr));
	} else if (packet->tuple.protocol == IPPROTO_SCTP) {
		ports = l4_header(cursor, packet, SCTP_HEADER_BYTES);
	} else {
		if (config.masquerade && is_icmp_protocol(packet->tuple.protocol))
			parse_echo(cursor, packet);
		return PARSE_IP;
	}
	if (!ports)
		return PARSE_MALFORMED;
	packet->tuple.source_port = ports[0];
	packet->tuple.destination_port = ports[1];
	packet->has_ports = true;
	return PARSE_IP;
}

/* Adds the carries of a sum of 16-bit words (RFC 1071) to it, which leaves 17 bits. */
static __always_inline __u32 fold(__u32 sum)
{
	return (sum & 0xffff) + (sum >> 16);
}

/* Returns `sum` and the sum of the packet's next words from `offset` on, at most IPV6_MTU_MIN bytes or up to its end.
 * The function is global, so that the verifier looks at it once. */
__noinline __u32 sum_words(context *ctx, __u32 offset, __u32 words, __u32 sum)
{
	struct cursor cursor = readable_bytes(ctx);
	__u16 *word = cursor.data + (offset & OFFSET_MASK);

	for (__u32 i = 0; i < IPV6_MTU_MIN / 2 && i < words; i++, word++) {
		if ((void *)(word + 1) > cursor.end)
			return (void *)word + 1 > cursor.end ? sum : sum + bpf_htons(*(__u8 *)word << 8);
		sum += *word;
	}
	return sum;
}

/* Is the header's checksum right? A router has to look (RFC 1812 section 5.2.2), and the stack never sees what we
 * forward. */
static __always_inline bool has_right_checksum(context *ctx, const struct iphdr *ip)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];

	if (ip->ihl != 5)
		sum = sum_words(ctx, L2_BYTES, ip->ihl * 2, 0);
	return fold((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

static __always_inline enum parse_result parse_ipv4(context *ctx, const struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = header_at(cursor, L2_BYTES, sizeof(*ip));
	__u32 header_bytes, bytes;
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return UNREADABLE;
	header_bytes = ip->ihl * 4;
	bytes = bpf_ntohs(ip->tot_len);
	if (bytes ? bytes < header_bytes || L2_BYTES + bytes > packet_bytes(ctx) : !segment_bytes(ctx))
		return PARSE_MALFORMED;
	if (!packet->from_node && !has_right_checksum(ctx, ip))
		return PARSE_MALFORMED;
	packet->tuple.source = ipv4_address(ip->saddr);
	packet->tuple.destination = ipv4_address(ip->daddr);
	packet->tuple.protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->l4_offset = L2_BYTES + header_bytes;
	packet->l4_bytes = bytes ? bytes - header_bytes : L4_BYTES_UNKNOWN;
	fragment = bpf_ntohs(ip->frag_off);
	packet->fixed_size = fragment & IPV4_DO_NOT_FRAGMENT;
	if (fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) {
		packet->fragment = true;
		packet->later_fragment = fragment & IPV4_FRAGMENT_OFFSET;
		packet->identification = ip->id;
	}
	return packet->later_fragment ? PARSE_IP : parse_ports(cursor, packet);
}

struct extension {
	__u8 next;
	__u8 length; /* in words of eight, less one */
	union {
		__be16 fragment;
		struct {
			__u8 routing_type;
			__u8 segments_left;
		};
	};
	__be32 identification; /* of a fragment */
};

/* Is the next header an extension header that is skipped? The transport checksum covers the last address of a
 * routing header: before the packet reaches that address, its ports cannot be translated. */
static __always_inline bool is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	       next == IPPROTO_FRAGMENT;
}

/* What the extension headers say, in one scalar. */
union extensions {
	__u64 bits;
	struct {
		__be32 identification;
		__u16 offset; /* of the transport header */
		__u8 next;
		__u8 malformed : 1;
		__u8 fragment : 1;
		__u8 later_fragment : 1;
		__u8 pad : 5;
	};
};

/* Walks the extension headers up to the transport header. An unknown one ends the walk: the packet is then forwarded
 * by its addresses alone. The hop-by-hop header of BIG TCP (RFC 2675) is skipped like any other. The function is
 * global, so that the verifier looks at it once, and at what follows once and not for each number of headers.
 * Returns union extensions. */
__noinline __u64 walk_extensions(context *ctx, __u32 offset, __u8 next)
{
	struct cursor cursor = readable_bytes(ctx);
	union extensions found = {};

	for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension(next) && !found.later_fragment; i++) {
		struct extension *extension = header_at(&cursor, offset & OFFSET_MASK, sizeof(*extension));

		if (!extension || offset > OFFSET_MASK) {
			found.malformed = true;
			break;
		}
		if (next == IPPROTO_ROUTING && extension->segments_left)
			break;
		if (next == IPPROTO_FRAGMENT) {
			__u16 fragment = bpf_ntohs(extension->fragment);

			found.fragment = !!(fragment & (IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS));
			found.later_fragment = !!(fragment & IPV6_FRAGMENT_OFFSET);
			found.identification = extension->identification;
			offset += sizeof(*extension);
		} else {
			offset += (extension->length + 1) * 8;
		}
		next = extension->next;
	}
	found.offset = offset;
	found.next = next;
	return found.bits;
}

static __always_inline enum parse_result parse_extensions(context *ctx, const struct cursor *cursor,
							  struct packet *packet)
{
	union extensions found = { .bits = walk_extensions(ctx, packet->l4_offset, packet->tuple.protocol) };
	__u32 bytes = found.offset - L2_BYTES - sizeof(struct ipv6hdr);

	if (found.malformed || packet->l4_bytes < bytes)
		return PARSE_MALFORMED;
	packet->tuple.protocol = found.next;
	packet->fragment = found.fragment;
	packet->later_fragment = found.later_fragment;
	packet->identification = found.identification;
	packet->l4_offset = found.offset;
	if (packet->l4_bytes != L4_BYTES_UNKNOWN)
		packet->l4_bytes -= bytes;
	if (found.later_fragment || found.offset > OFFSET_MASK)
		return PARSE_IP;
	return parse_ports(cursor, packet);
}

static __always_inline enum parse_result parse_ipv6(context *ctx, const struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = header_at(cursor, L2_BYTES, sizeof(*ip));
	__u16 bytes;

	if (!ip || ip->version != 6)
		return UNREADABLE;
	bytes = bpf_ntohs(ip->payload_len);
	if (L2_BYTES + sizeof(*ip) + bytes > packet_bytes(ctx))
		return PARSE_MALFORMED;
	__builtin_memcpy(&packet->tuple, &ip->saddr, BOTH_ADDRESSES);
	/* The maps would take them for IPv4's; the kernel drops them too. */
	if (is_ipv4(&packet->tuple.source) || is_ipv4(&packet->tuple.destination))
		return PARSE_MALFORMED;
	packet->ttl = ip->hop_limit;
	packet->fixed_size = true;
	packet->l4_bytes = bytes || !segment_bytes(ctx) ? bytes : L4_BYTES_UNKNOWN;
	packet->l4_offset = L2_BYTES + sizeof(*ip);
	packet->tuple.protocol = ip->nexthdr;
	return is_extension(ip->nexthdr) ? parse_extensions(ctx, cursor, packet) : parse_ports(cursor, packet);
}

static __always_inline enum parse_result parse_packet(context *ctx, const struct cursor *cursor, struct packet *packet)
{
	packet->ethertype = packet_ethertype(ctx);
	if (is_ipv4_packet(packet))
		return parse_ipv4(ctx, cursor, packet);
	if (packet->ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, cursor, packet);
	return PARSE_OTHER;
}
