/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets of DSR in Geneve (RFC 8926), as Cilium has them: IP and UDP between two nodes, an option that names the
 * frontend, an Ethernet header, and the client's packet, which is of the same family. They are made, recognised and
 * unpacked without a tunnel device. */
#pragma once

#include "dsr_option.h"
#include "icmp_build.h"
#include "maps.h"

#define GENEVE_PORT 6081
#define GENEVE_SOURCE_PORTS 0xc000 /* 49152 and above (RFC 8926 section 3.3) */
#define GENEVE_CRITICAL 0x40 /* who does not know an option must not go on */
#define GENEVE_OPTION_CLASS 0x014b /* Cilium's */
#define GENEVE_OPTION_TYPE 0x81 /* 1, and critical */
#define GENEVE_WORLD 2 /* the network number: the identity that Cilium gives clients outside */
#define GENEVE_TTL 64
#define IPV4_ECN 0x00030000 /* of the first word */
#define IPV6_ECN 0x00300000

/* The headers behind the outer IP header, up to the value of the option. */
struct geneve {
	struct udphdr udp;
	__u8 words; /* of four bytes, in all options; the version above them is 0 */
	__u8 flags;
	__be16 protocol;
	__be32 network;
	__be16 option_class;
	__u8 option_type;
	__u8 option_words;
};

/* The length of the option's value: an address, a port and two bytes of zero, as struct dsr_setup has them. */
static __always_inline __u32 value_bytes(bool ipv4)
{
	return ipv4 ? 2 * sizeof(__be32) : sizeof(struct address) + sizeof(__be32);
}

/* How many bytes are in front of the client's IP header? */
static __always_inline __u32 geneve_bytes(bool ipv4)
{
	return ip_header_bytes(ipv4) + sizeof(struct geneve) + value_bytes(ipv4) + ETH_HLEN;
}

/* Is it a packet in Geneve, whole, with the option and nothing beside it? Others' tunnels are not recognised. */
static __always_inline bool has_geneve_option(context *ctx, const struct packet *packet)
{
	__u32 words = value_bytes(is_ipv4_packet(packet)) / sizeof(__be32);
	struct geneve found;

	if (packet->tuple.protocol != IPPROTO_UDP || packet->tuple.destination_port != bpf_htons(GENEVE_PORT) ||
	    packet->fragment || extra_bytes(packet) || load_bytes(ctx, packet->l4_offset, &found, sizeof(found)))
		return false;
	return found.words == words + 1 && found.protocol == bpf_htons(ETH_P_TEB) &&
	       found.option_class == bpf_htons(GENEVE_OPTION_CLASS) && found.option_type == GENEVE_OPTION_TYPE &&
	       (found.option_words & 0x1f) == words; /* the other bits are reserved */
}

/* A length in a header; 0 where it is too long for one, which is a packet that will be cut. */
#define length_field(bytes) ((bytes) <= 0xffff ? bpf_htons(bytes) : 0)

/* Writes the outer header; `first` is the first word of the client's. Congestion is not marked in it (RFC 6040,
 * compatibility mode): routers drop such packets instead. */
static __always_inline int write_outer_ipv4(context *ctx, const struct tuple *outer, __be32 first, __u32 bytes)
{
	struct iphdr ip = {};

	first &= ~bpf_htonl(IPV4_ECN | 0xffff);
	__builtin_memcpy(&ip, &first, sizeof(first));
	ip.ihl = sizeof(ip) / 4;
	ip.tot_len = length_field(bytes);
	ip.frag_off = bpf_htons(IPV4_DO_NOT_FRAGMENT);
	ip.ttl = GENEVE_TTL;
	ip.protocol = IPPROTO_UDP;
	ip.saddr = outer->source.word[3];
	ip.daddr = outer->destination.word[3];
	ip.check = checksum(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
	return store_summed(ctx, ETH_HLEN, &ip, sizeof(ip));
}

static __always_inline int write_outer_ipv6(context *ctx, const struct tuple *outer, __be32 first, __u32 bytes)
{
	struct ipv6hdr ip = {};

	first &= ~bpf_htonl(IPV6_ECN);
	__builtin_memcpy(&ip, &first, sizeof(first));
	ip.payload_len = length_field(bytes - sizeof(ip));
	ip.nexthdr = IPPROTO_UDP;
	ip.hop_limit = GENEVE_TTL;
	__builtin_memcpy(&ip.saddr, outer, BOTH_ADDRESSES);
	return store_summed(ctx, ETH_HLEN, &ip, sizeof(ip));
}

/* Puts a packet with an Ethernet header into Geneve. The kernel has zeroed the room: that is the inner Ethernet
 * header, but for its type. Returns negative with the packet in an unusable state. */
static __always_inline int wrap(context *ctx, __be16 ethertype, const struct tuple *outer, struct dsr_setup *dsr)
{
	bool ipv4 = ethertype == bpf_htons(ETH_P_IP);
	__u32 added = geneve_bytes(ipv4), bytes = packet_bytes(ctx) - ETH_HLEN + added;
	__u32 value = value_bytes(ipv4), at = ETH_HLEN + ip_header_bytes(ipv4);
	struct geneve geneve = {
		.udp.source = outer->source_port,
		.udp.dest = outer->destination_port,
		.udp.len = length_field(bytes - ip_header_bytes(ipv4)),
		.words = value / sizeof(__be32) + 1,
		.flags = GENEVE_CRITICAL,
		.protocol = bpf_htons(ETH_P_TEB),
		.network = bpf_htonl(GENEVE_WORLD << 8),
		.option_class = bpf_htons(GENEVE_OPTION_CLASS),
		.option_type = GENEVE_OPTION_TYPE,
		.option_words = value / sizeof(__be32),
	};
	__be32 first;

	if (load_bytes(ctx, ETH_HLEN, &first, sizeof(first)) || insert_tunnel(ctx, ipv4, added) ||
	    (ipv4 ? write_outer_ipv4(ctx, outer, first, bytes) : write_outer_ipv6(ctx, outer, first, bytes)))
		return -1;
	if (store_summed(ctx, at, &geneve, sizeof(geneve)) ||
	    (ipv4 ? store_summed(ctx, at + sizeof(geneve), &dsr->frontend.word[3], value_bytes(true))
		  : store_summed(ctx, at + sizeof(geneve), &dsr->frontend, value_bytes(false))))
		return -1;
	return store_summed(ctx, ETH_HLEN + added - sizeof(ethertype), &ethertype, sizeof(ethertype));
}

/* Reads the addresses of both nodes and the frontend that the option names. */
static __always_inline int read_outer(context *ctx, bool ipv4, struct dsr_setup *dsr)
{
	__u32 at = L2_BYTES + ip_header_bytes(ipv4) + sizeof(struct geneve);
	__be32 ends[2];

	dsr->frontend = ipv4_address(0);
	if (ipv4 ? load_bytes(ctx, at, &dsr->frontend.word[3], value_bytes(true))
		 : load_bytes(ctx, at, &dsr->frontend, value_bytes(false)))
		return -1;
	dsr->pad = 0;
	if (!ipv4)
		return load_bytes(ctx, IPV6_ADDRESSES_OFFSET, &dsr->arrived, BOTH_ADDRESSES);
	if (load_bytes(ctx, IPV4_ADDRESSES_OFFSET, ends, sizeof(ends)))
		return -1;
	dsr->arrived.source = ipv4_address(ends[0]);
	dsr->arrived.destination = ipv4_address(ends[1]);
	return 0;
}

/* Takes a packet out of Geneve. Returns 0, or not where it is of another family, or in an unusable state. */
static __always_inline int unwrap(context *ctx, bool ipv4)
{
	__u32 bytes = geneve_bytes(ipv4);
	__be16 ethertype;

	return load_bytes(ctx, L2_BYTES + bytes - sizeof(ethertype), &ethertype, sizeof(ethertype)) ||
	       ethertype != packet_ethertype(ctx) || remove_tunnel(ctx, bytes);
}
