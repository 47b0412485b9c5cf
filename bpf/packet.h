/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is known of a packet, and how it is read: Ethernet, IPv4 (RFC 791), IPv6 (RFC 8200), TCP, UDP, SCTP. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "address.h"
#include "kubypass.h"

#define MAX_EXTENSION_HEADERS 6
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_FRAGMENT_HEADER 44
#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_FLAGS_OFFSET 13

struct sctp_header { /* RFC 9260 section 3.1 */
	__be16 source;
	__be16 dest;
	__be32 tag;
	__u32 checksum; /* CRC32c, little endian */
};

struct packet {
	struct tuple tuple; /* as it is now: rewriting keeps it true */
	__be16 ethertype;
	__u8 tcp_flags;
	bool has_ports; /* TCP, UDP or SCTP with its ports in this packet */
	bool fragment;
	bool translated;
	bool moved; /* to another destination address */
	bool own; /* sent by the node itself: no hop of a router's */
	__u16 l4_offset; /* from the Ethernet header */
	__u16 l4_bytes; /* as the IP header says; 0 in a jumbogram */
	__u8 ttl;
	int action; /* what the tc hook returns once the packet was redirected */
};

enum parse_result {
	PARSE_IP,
	PARSE_OTHER, /* not IP: none of our business */
	PARSE_MALFORMED,
};

/* The bytes of one packet, as far as they may be read directly. */
struct cursor {
	void *data;
	void *end;
};

/* Returns the header of `size` bytes at `offset`, or NULL where the packet is shorter. */
static __always_inline void *header_at(const struct cursor *cursor, __u32 offset, __u32 size)
{
	void *header = cursor->data + offset;

	return header + size > cursor->end ? NULL : header;
}

static __always_inline enum parse_result parse_ports(const struct cursor *cursor, struct packet *packet)
{
	/* The verifier wants a bound on a variable offset. */
	__u32 offset = packet->l4_offset & 0x3ff;

	if (packet->tuple.protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = header_at(cursor, offset, sizeof(*tcp));

		if (!tcp)
			return PARSE_MALFORMED;
		packet->tuple.source_port = tcp->source;
		packet->tuple.destination_port = tcp->dest;
		packet->tcp_flags = ((__u8 *)tcp)[TCP_FLAGS_OFFSET];
	} else if (packet->tuple.protocol == IPPROTO_UDP) {
		struct udphdr *udp = header_at(cursor, offset, sizeof(*udp));

		if (!udp)
			return PARSE_MALFORMED;
		packet->tuple.source_port = udp->source;
		packet->tuple.destination_port = udp->dest;
	} else if (packet->tuple.protocol == IPPROTO_SCTP) {
		struct sctp_header *sctp = header_at(cursor, offset, sizeof(*sctp));

		if (!sctp)
			return PARSE_MALFORMED;
		packet->tuple.source_port = sctp->source;
		packet->tuple.destination_port = sctp->dest;
	} else {
		return PARSE_IP;
	}
	packet->has_ports = true;
	return PARSE_IP;
}

static __always_inline enum parse_result parse_ipv4(const struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip = header_at(cursor, ETH_HLEN, sizeof(*ip));
	__u16 fragment;

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return PARSE_MALFORMED;
	packet->tuple.source = ipv4_address(ip->saddr);
	packet->tuple.destination = ipv4_address(ip->daddr);
	packet->tuple.protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->l4_offset = ETH_HLEN + ip->ihl * 4;
	packet->l4_bytes = bpf_ntohs(ip->tot_len) - ip->ihl * 4;
	fragment = bpf_ntohs(ip->frag_off) & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET);
	packet->fragment = fragment != 0;
	if (fragment & IPV4_FRAGMENT_OFFSET)
		return PARSE_IP;
	return parse_ports(cursor, packet);
}

static __always_inline void copy_ipv6(struct address *to, const struct in6_addr *from)
{
	to->word[0] = from->in6_u.u6_addr32[0];
	to->word[1] = from->in6_u.u6_addr32[1];
	to->word[2] = from->in6_u.u6_addr32[2];
	to->word[3] = from->in6_u.u6_addr32[3];
}

/* Walks the extension headers up to the transport header. An unknown one ends the walk: the packet is then
 * forwarded by its addresses alone. The hop-by-hop header of BIG TCP (RFC 2675) is skipped like any other. */
static __always_inline enum parse_result parse_extensions(const struct cursor *cursor, struct packet *packet, __u8 next)
{
	__u32 offset = ETH_HLEN + sizeof(struct ipv6hdr);

	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		struct {
			__u8 next;
			__u8 length;
			__be16 fragment;
			__u32 rest;
		} *extension;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPV6_FRAGMENT_HEADER)
			break;
		extension = header_at(cursor, offset & 0x3ff, sizeof(*extension));
		if (!extension || offset > 0x3ff)
			return PARSE_MALFORMED;
		if (next == IPV6_FRAGMENT_HEADER) {
			__u16 fragment = bpf_ntohs(extension->fragment);

			packet->fragment = true;
			packet->tuple.protocol = extension->next;
			if (fragment & IPV6_FRAGMENT_OFFSET)
				return PARSE_IP;
			offset += sizeof(*extension);
		} else {
			offset += (extension->length + 1) * 8;
		}
		next = extension->next;
	}
	if (offset > 0x3ff)
		return PARSE_IP;
	packet->tuple.protocol = next;
	packet->l4_offset = offset;
	packet->l4_bytes -= offset - ETH_HLEN - sizeof(struct ipv6hdr);
	return parse_ports(cursor, packet);
}

static __always_inline enum parse_result parse_ipv6(const struct cursor *cursor, struct packet *packet)
{
	struct ipv6hdr *ip = header_at(cursor, ETH_HLEN, sizeof(*ip));

	if (!ip || ip->version != 6)
		return PARSE_MALFORMED;
	copy_ipv6(&packet->tuple.source, &ip->saddr);
	copy_ipv6(&packet->tuple.destination, &ip->daddr);
	packet->ttl = ip->hop_limit;
	packet->l4_bytes = bpf_ntohs(ip->payload_len);
	return parse_extensions(cursor, packet, ip->nexthdr);
}

/* Reads the headers of a packet whose ethertype is known. */
static __always_inline enum parse_result parse_packet(const struct cursor *cursor, __be16 ethertype,
						      struct packet *packet)
{
	packet->ethertype = ethertype;
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_ipv4(cursor, packet);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(cursor, packet);
	return PARSE_OTHER;
}
