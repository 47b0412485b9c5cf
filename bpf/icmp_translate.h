/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP errors about translated packets (RFC 5508, RFC 7915 section 4.5 for what is quoted). They quote the packet as it was on
 * the way where it failed; whoever sent it knows it by other addresses and ports. The replies to a quoted packet would find
 * an entry in `flows`, and what this entry makes of them is what the packet was. */
#pragma once

#include "conntrack.h"
#include "message.h"
#include "service.h"
#include "skb.h"

#define ICMP_HEADER_BYTES 8

static __always_inline bool is_icmp(const struct packet *packet)
{
	return packet->tuple.protocol == (packet->ethertype == bpf_htons(ETH_P_IP) ? IPPROTO_ICMP : IPPROTO_ICMPV6) &&
	       !packet->fragment;
}

static __always_inline bool is_icmp_type(context *ctx, const struct packet *packet, __u8 ipv4, __u8 ipv6)
{
	__u8 type;

	if (!is_icmp(packet) || bpf_skb_load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return false;
	return type == (packet->ethertype == bpf_htons(ETH_P_IP) ? ipv4 : ipv6);
}

static __always_inline bool is_time_exceeded(context *ctx, const struct packet *packet)
{
	return is_icmp_type(ctx, packet, ICMP_TIME_EXCEEDED, ICMPV6_TIME_EXCEEDED);
}

static __always_inline bool is_echo_request(context *ctx, const struct packet *packet)
{
	return is_icmp_type(ctx, packet, ICMP_ECHO, ICMPV6_ECHO);
}

/* Unreachable (too big is one of these in IPv4), time exceeded, parameter problem, and IPv6's too big. */
static __always_inline bool is_icmp_error(context *ctx, const struct packet *packet)
{
	__u8 type;

	if (!is_icmp(packet) || bpf_skb_load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return false;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM;
}

/* The first bytes of the transport header, which are the ports, may be all of it that is quoted. */
static __always_inline bool parse_quoted_ports(context *ctx, struct packet *quoted)
{
	__u8 protocol = quoted->tuple.protocol;
	__be16 ports[2];

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return false;
	if (bpf_skb_load_bytes(ctx, quoted->l4_offset, ports, sizeof(ports)))
		return false;
	quoted->tuple.source_port = ports[0];
	quoted->tuple.destination_port = ports[1];
	return true;
}

static __always_inline bool parse_quoted_ipv4(context *ctx, __u32 offset, struct packet *quoted)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    (ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)))
		return false;
	quoted->tuple.source = ipv4_address(ip.saddr);
	quoted->tuple.destination = ipv4_address(ip.daddr);
	quoted->tuple.protocol = ip.protocol;
	quoted->l4_offset = offset + ip.ihl * 4;
	return parse_quoted_ports(ctx, quoted);
}

static __always_inline bool parse_quoted_ipv6(context *ctx, __u32 offset, struct packet *quoted)
{
	struct extension extension;
	struct ipv6hdr ip;
	__u8 next;

	if (bpf_skb_load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	copy_ipv6(&quoted->tuple.source, &ip.saddr);
	copy_ipv6(&quoted->tuple.destination, &ip.daddr);
	next = ip.nexthdr;
	offset += sizeof(ip);
	for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension(next); i++) {
		if (bpf_skb_load_bytes(ctx, offset, &extension, sizeof(extension)))
			return false;
		if (next == IPV6_FRAGMENT_HEADER && (extension.fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)))
			return false;
		offset += next == IPV6_FRAGMENT_HEADER ? sizeof(extension) : (extension.length + 1) * 8;
		next = extension.next;
	}
	quoted->tuple.protocol = next;
	quoted->l4_offset = offset;
	return parse_quoted_ports(ctx, quoted);
}

/* Gives the quoted packet its addresses and ports of before. What is quoted of its transport's checksum stays. The ICMP
 * checksum covers all of it; in IPv4 the quoted header makes up for its addresses by its own checksum. */
static __always_inline int rewrite_quoted(context *ctx, const struct packet *packet, const struct packet *quoted,
					  const struct tuple *sent)
{
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES, ports = both_ports(sent);
	__u32 old_ports = both_ports(&quoted->tuple);
	__s64 difference = bpf_csum_diff(&old_ports, sizeof(old_ports), &ports, sizeof(ports), 0);
	int error;

	if (packet->ethertype == bpf_htons(ETH_P_IP)) {
		__be32 old[2] = { quoted->tuple.source.word[3], quoted->tuple.destination.word[3] };
		__be32 new[2] = { sent->source.word[3], sent->destination.word[3] };
		__s64 addresses = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);

		error = bpf_l3_csum_replace(ctx, offset + offsetof(struct iphdr, check), 0, addresses, 0) ||
			bpf_skb_store_bytes(ctx, offset + offsetof(struct iphdr, saddr), new, sizeof(new), 0);
	} else {
		difference = bpf_csum_diff((__be32 *)&quoted->tuple, 2 * sizeof(struct address), (__be32 *)sent,
					   2 * sizeof(struct address), difference);
		error = bpf_skb_store_bytes(ctx, offset + offsetof(struct ipv6hdr, saddr), sent,
					    2 * sizeof(struct address), 0);
	}
	return error || bpf_l4_csum_replace(ctx, checksum_offset(packet), 0, difference, 0) ||
	       bpf_skb_store_bytes(ctx, quoted->l4_offset, &ports, sizeof(ports), 0);
}

/* Does a translated error stay one of the router that has sent it? It does for pods of this node, and where a way is traced.
 * Others that leave the node would be taken for forged ones, on the next router if it is the same. */
static __always_inline bool keeps_source(context *ctx, const struct packet *packet, const struct packet *quoted,
					 const struct tuple *sent)
{
	if (same_address(&packet->tuple.source, &quoted->tuple.destination))
		return false;
	return is_time_exceeded(ctx, packet) || lookup_local_address(&sent->source);
}

/* Translates an ICMP error about a packet that was translated here, whichever way that went: it goes to who has sent the
 * packet, and comes from a router or from the address that the packet was sent to. */
static __always_inline enum verdict translate_error(context *ctx, struct packet *packet)
{
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES;
	struct packet quoted = {};
	struct tuple key, sent, outer;
	struct flow *flow;
	bool parsed;

	if (packet->ethertype == bpf_htons(ETH_P_IP))
		parsed = parse_quoted_ipv4(ctx, offset, &quoted);
	else
		parsed = parse_quoted_ipv6(ctx, offset, &quoted);
	if (!parsed || !same_address(&quoted.tuple.source, &packet->tuple.destination))
		return VERDICT_PASS;
	key = reversed(&quoted.tuple);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || flow->expires_ns <= now_ns())
		return VERDICT_PASS;
	sent = partner_key(flow, quoted.tuple.protocol);
	if (rewrite_quoted(ctx, packet, &quoted, &sent))
		return VERDICT_DROP_REWRITE;
	outer = packet->tuple;
	if (!keeps_source(ctx, packet, &quoted, &sent))
		outer.source = sent.destination;
	outer.destination = sent.source;
	return rewrite_addresses(ctx, packet, &outer) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}
