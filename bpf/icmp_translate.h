/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Translates ICMP errors about translated packets (RFC 5508; RFC 7915 section 4.5 for what is quoted). An error
 * quotes the packet as it was where it failed, but its sender knows it by other addresses and ports. Replies to the
 * quoted packet would find an entry in `flows`: what that entry makes of them says what the packet was. */
#pragma once

#include "conntrack.h"
#include "icmp_build.h"
#include "rewrite.h"
#include "service.h"

#define ICMP_HEADER_BYTES 8

static __always_inline bool has_icmp(const struct packet *packet)
{
	return packet->tuple.protocol == (packet->ethertype == bpf_htons(ETH_P_IP) ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline bool is_icmp(const struct packet *packet)
{
	return has_icmp(packet) && !packet->fragment;
}

static __always_inline bool is_icmp_type(context *ctx, const struct packet *packet, __u8 ipv4, __u8 ipv6)
{
	__u8 type;

	if (!is_icmp(packet) || load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
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

/* Is the packet "unreachable" (which in IPv4 includes "too big"), "time exceeded", "parameter problem", or IPv6's
 * "too big"? */
static __always_inline bool has_error_type(context *ctx, const struct packet *packet)
{
	__u8 type;

	if (!has_icmp(packet) || load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return false;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM;
}

static __always_inline bool is_icmp_error(context *ctx, const struct packet *packet)
{
	return !packet->fragment && has_error_type(ctx, packet);
}

/* The quoted transport header may be cut after its first bytes, which are the ports. */
static __always_inline bool parse_quoted_ports(context *ctx, struct icmp_quotation *icmp)
{
	__u8 protocol = icmp->quoted.protocol;
	__be16 ports[2];

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return false;
	if (load_bytes(ctx, icmp->l4_offset, ports, sizeof(ports)))
		return false;
	icmp->quoted.source_port = ports[0];
	icmp->quoted.destination_port = ports[1];
	return true;
}

static __always_inline bool parse_quoted_ipv4(context *ctx, __u32 offset, struct icmp_quotation *icmp)
{
	struct iphdr ip;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    (ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)))
		return false;
	icmp->quoted.source = ipv4_address(ip.saddr);
	icmp->quoted.destination = ipv4_address(ip.daddr);
	icmp->quoted.protocol = ip.protocol;
	icmp->l4_offset = offset + ip.ihl * 4;
	return parse_quoted_ports(ctx, icmp);
}

static __always_inline bool parse_quoted_ipv6(context *ctx, __u32 offset, struct icmp_quotation *icmp)
{
	struct extension extension;
	struct ipv6hdr ip;
	__u8 next;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 6)
		return false;
	__builtin_memcpy(&icmp->quoted, &ip.saddr, 2 * sizeof(struct address));
	next = ip.nexthdr;
	offset += sizeof(ip);
	for (int i = 0; i < MAX_EXTENSION_HEADERS && is_extension(next); i++) {
		if (load_bytes(ctx, offset, &extension, sizeof(extension)))
			return false;
		if (next == IPV6_FRAGMENT_HEADER && (extension.fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)))
			return false;
		offset += next == IPV6_FRAGMENT_HEADER ? sizeof(extension) : (extension.length + 1) * 8;
		next = extension.next;
	}
	icmp->quoted.protocol = next;
	icmp->l4_offset = offset;
	return parse_quoted_ports(ctx, icmp);
}

/* Gives the quoted packet the addresses and ports that it was sent with. The quoted transport checksum stays. The
 * ICMP checksum covers all of it; in IPv4, the quoted header's own checksum compensates for its addresses. */
static __always_inline int rewrite_quoted(context *ctx, const struct packet *packet, const struct icmp_quotation *icmp)
{
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES, ports = both_ports(&icmp->sent);
	__u32 old_ports = both_ports(&icmp->quoted);
	__s64 difference = bpf_csum_diff(&old_ports, sizeof(old_ports), &ports, sizeof(ports), 0);
	int error;

	if (packet->ethertype == bpf_htons(ETH_P_IP)) {
		__be32 old[2] = { icmp->quoted.source.word[3], icmp->quoted.destination.word[3] };
		__be32 new[2] = { icmp->sent.source.word[3], icmp->sent.destination.word[3] };
		__s64 addresses = bpf_csum_diff(old, sizeof(old), new, sizeof(new), 0);

		error = replace_l3_checksum(ctx, offset + offsetof(struct iphdr, check), 0, addresses, 0) ||
			store_bytes(ctx, offset + offsetof(struct iphdr, saddr), new, sizeof(new));
	} else {
		difference = bpf_csum_diff((__be32 *)&icmp->quoted, 2 * sizeof(struct address), (__be32 *)&icmp->sent,
					   2 * sizeof(struct address), difference);
		error = store_bytes(ctx, offset + offsetof(struct ipv6hdr, saddr), &icmp->sent,
				    2 * sizeof(struct address));
	}
	return error || replace_l4_checksum(ctx, checksum_offset(packet), 0, difference, 0) ||
	       store_bytes(ctx, icmp->l4_offset, &ports, sizeof(ports));
}

/* Does a translated error keep its source, the router that has sent it? It does for pods of this node, and for
 * traceroute. Others that leave the node would be taken for forged ones on the next router, if that is the same. */
static __always_inline bool keeps_source(context *ctx, const struct packet *packet, const struct icmp_quotation *icmp)
{
	if (same_address(&packet->tuple.source, &icmp->quoted.destination))
		return false;
	return is_time_exceeded(ctx, packet) || lookup_local_address(&icmp->sent.source);
}

/* Translates an ICMP error about a packet that was translated here, in either direction. The error goes to the
 * sender of that packet, and comes from a router or from the address that the packet was sent to. */
static __always_inline enum verdict translate_icmp_error(context *ctx, struct packet *packet)
{
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES;
	struct scratch *scratch = this_scratch();
	struct icmp_quotation *icmp;
	struct tuple key;
	struct flow *flow;
	bool parsed;

	if (!scratch)
		return VERDICT_PASS;
	icmp = &scratch->icmp;
	__builtin_memset(icmp, 0, sizeof(*icmp));
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		parsed = parse_quoted_ipv4(ctx, offset, icmp);
	else
		parsed = parse_quoted_ipv6(ctx, offset, icmp);
	if (!parsed || !same_address(&icmp->quoted.source, &packet->tuple.destination))
		return VERDICT_PASS;
	key = reversed(&icmp->quoted);
	flow = find_flow(&key, now_ns(), false);
	if (!flow)
		return VERDICT_PASS;
	icmp->sent = partner_key(flow, icmp->quoted.protocol);
	if (rewrite_quoted(ctx, packet, icmp))
		return VERDICT_DROP_REWRITE;
	key = packet->tuple;
	if (!keeps_source(ctx, packet, icmp))
		key.source = icmp->sent.destination;
	key.destination = icmp->sent.source;
	return rewrite_addresses(ctx, packet, &key) ? VERDICT_DROP_REWRITE : VERDICT_PASS;
}
