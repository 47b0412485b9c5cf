/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Translates ICMP errors about translated packets (RFC 5508; RFC 7915 section 4.5 for what is quoted). An error
 * quotes the packet as it was where it failed, but its sender knows it by other addresses and ports. Replies to the
 * quoted packet would find an entry in `flows`: what that entry makes of them says what the packet was. */
#pragma once

#include "conntrack.h"
#include "icmp_build.h"
#include "passage.h"
#include "rewrite.h"
#include "service.h"

#define ICMP_HEADER_BYTES 8

/* Returns the type of an ICMP message, or negative where the packet is none. Of fragments, the first one has it. */
static __always_inline int icmp_type(context *ctx, const struct packet *packet)
{
	__u8 type, protocol = is_ipv4_packet(packet) ? IPPROTO_ICMP : IPPROTO_ICMPV6;

	if (packet->tuple.protocol != protocol || load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return -1;
	return type;
}

/* Is the packet a whole ICMP message of the type that has this number in its family? */
static __always_inline bool is_icmp(context *ctx, const struct packet *packet, __u8 ipv4, __u8 ipv6)
{
	__u8 type = is_ipv4_packet(packet) ? ipv4 : ipv6;

	return !packet->fragment && icmp_type(ctx, packet) == type;
}

/* Is the packet "unreachable" (which in IPv4 includes "too big"), "time exceeded", "parameter problem", or IPv6's
 * "too big"? */
static __always_inline bool has_error_type(context *ctx, const struct packet *packet)
{
	int type = icmp_type(ctx, packet);

	if (is_ipv4_packet(packet))
		return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
}

/* The quoted transport header may be cut after its first bytes, which are the ports. */
static __always_inline bool parse_quoted_ports(context *ctx, struct icmp_quotation *icmp)
{
	__u8 protocol = icmp->quoted.protocol;
	struct icmp_echo echo;
	__be16 ports[2];

	if (config.masquerade && is_icmp_protocol(protocol))
		return !load_bytes(ctx, icmp->l4_offset, &echo, sizeof(echo)) && set_echo_ports(&icmp->quoted, &echo);
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
	union extensions found;
	struct ipv6hdr ip;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)) || ip.version != 6 || make_readable(ctx, packet_bytes(ctx)))
		return false;
	__builtin_memcpy(&icmp->quoted, &ip.saddr, BOTH_ADDRESSES);
	found.bits = walk_extensions(ctx, offset + sizeof(ip), ip.nexthdr);
	icmp->quoted.protocol = found.next;
	icmp->l4_offset = found.offset;
	return !found.malformed && !found.later_fragment && parse_quoted_ports(ctx, icmp);
}

static __always_inline bool parse_quoted(context *ctx, const struct packet *packet, struct icmp_quotation *icmp)
{
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES;

	__builtin_memset(icmp, 0, sizeof(*icmp));
	return is_ipv4_packet(packet) ? parse_quoted_ipv4(ctx, offset, icmp) : parse_quoted_ipv6(ctx, offset, icmp);
}

/* Gives the quoted packet the addresses and ports that it was sent with. The quoted transport checksum stays. The
 * ICMP checksum covers all of it; in IPv4, the quoted header's own checksum compensates for its addresses. */
static __always_inline int rewrite_quoted(context *ctx, const struct packet *packet, const struct icmp_quotation *icmp)
{
	bool ipv4 = is_ipv4_packet(packet);
	__u32 offset = packet->l4_offset + ICMP_HEADER_BYTES;
	__be32 ends[2] = { icmp->sent.source.word[3], icmp->sent.destination.word[3] };
	__u32 old_ports = both_ports(&icmp->quoted), ports = both_ports(&icmp->sent);
	__s64 addresses = addresses_difference(&icmp->quoted, &icmp->sent);
	__s64 difference = bpf_csum_diff(&old_ports, sizeof(old_ports), &ports, sizeof(ports), ipv4 ? 0 : addresses);
	int error;

	if (ipv4)
		error = replace_l3_checksum(ctx, offset + offsetof(struct iphdr, check), 0, addresses, 0) ||
			store_bytes(ctx, offset + offsetof(struct iphdr, saddr), ends, sizeof(ends));
	else
		error = store_bytes(ctx, offset + offsetof(struct ipv6hdr, saddr), &icmp->sent, BOTH_ADDRESSES);
	return error || replace_l4_checksum(ctx, checksum_offset(packet), 0, difference, 0) ||
	       store_ports(ctx, icmp->quoted.protocol, icmp->l4_offset, ports);
}

/* Does a translated error keep its source, the router that has sent it? It does for pods of this node, and for
 * traceroute. Others that leave the node would be taken for forged ones on the next router, if that is the same. */
static __always_inline bool keeps_source(context *ctx, const struct packet *packet, const struct icmp_quotation *icmp)
{
	if (same_address(&packet->tuple.source, &icmp->quoted.destination))
		return false;
	return is_icmp(ctx, packet, ICMP_TIME_EXCEEDED, ICMPV6_TIME_EXCEED) || lookup_local_address(&icmp->sent.source);
}

/* Finds out what an ICMP error about a packet that was translated here, in either direction, becomes: it goes to the
 * sender of that packet, and comes from a router or from the address that the packet was sent to. Returns false where
 * it stays as it is; else `icmp` has what it quotes, and `to` its own addresses. */
static __always_inline bool plan_icmp_error(context *ctx, const struct packet *packet, struct icmp_quotation *icmp,
					    struct tuple *to)
{
	struct tuple key;
	struct flow *flow;

	if (!parse_quoted(ctx, packet, icmp) || !same_address(&icmp->quoted.source, &packet->tuple.destination))
		return false;
	key = reversed(&icmp->quoted);
	flow = find_flow(&key, now_ns(), false);
	if (!flow)
		return false;
	icmp->sent = partner_key(flow, icmp->quoted.protocol);
	icmp->to_backend = flow->direction == FLOW_REPLY;
	*to = packet->tuple;
	if (!keeps_source(ctx, packet, icmp))
		to->source = icmp->sent.destination;
	to->destination = icmp->sent.source;
	return true;
}

/* Has the stack forward the error: what it quotes becomes what netfilter has seen of that packet (passage.h). */
static __always_inline void begin_error(struct packet *packet, struct scratch *scratch)
{
	struct passage *passage = &scratch->passage;
	struct icmp_quotation *icmp = &scratch->icmp;

	if (!may_go_through_stack(packet) || is_of_node(&passage->seen.destination))
		return;
	packet->in_passage = true;
	passage->quoted = icmp->sent;
	icmp->sent.destination = icmp->quoted.destination;
	if (icmp->to_backend) {
		icmp->sent.source_port = icmp->quoted.source_port;
		icmp->sent.destination_port = icmp->quoted.destination_port;
	}
	passage->target = passage->seen;
	passage->seen.source = packet->tuple.source;
}

/* Translates an ICMP error, if it is about a packet that was translated here. */
static __always_inline enum verdict translate_icmp_error(context *ctx, struct packet *packet)
{
	struct scratch *scratch = this_scratch();

	if (!scratch || !plan_icmp_error(ctx, packet, &scratch->icmp, &scratch->passage.seen))
		return VERDICT_PASS;
	begin_error(packet, scratch);
	if (rewrite_quoted(ctx, packet, &scratch->icmp) || rewrite_addresses(ctx, packet, &scratch->passage.seen))
		return VERDICT_DROP_REWRITE;
	return VERDICT_PASS;
}
