/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tells a sender that its packet ends here: which packets get an ICMP reply, whose reply it is, and what it says.
 * The packet itself becomes the reply. */
#pragma once

#include "conntrack.h"
#include "departure.h"
#include "finish.h"
#include "hook.h"
#include "icmp_build.h"

static __always_inline struct icmp_error error_of(bool ipv4, enum verdict verdict, __u32 mtu)
{
	struct icmp_error error = { .type = ipv4 ? ICMP_UNREACHABLE : ICMPV6_DEST_UNREACH };

	if (verdict == VERDICT_ANSWER_TTL_EXPIRED) {
		error.type = ipv4 ? ICMP_TIME_EXCEEDED : ICMPV6_TIME_EXCEED;
	} else if (verdict != VERDICT_ANSWER_TOO_BIG) {
		error.code = ipv4 ? ICMP_PORT : ICMPV6_PORT_UNREACH;
	} else if (ipv4) {
		error.code = ICMP_FRAGMENTATION_NEEDED;
		error.field = bpf_htonl(mtu ? mtu : IPV4_MTU_MIN);
	} else {
		error.type = ICMPV6_PKT_TOOBIG;
		error.field = bpf_htonl(mtu > IPV6_MTU_MIN ? mtu : IPV6_MTU_MIN);
	}
	return error;
}

/* Returns the source address of an error: a service's where no backend or port serves, else the node's, which gives
 * up as a router does. The node's own stack would take an error from its own address for a forged one. */
static __always_inline struct address error_source(enum hook hook, const struct packet *packet, enum verdict verdict)
{
	bool service = verdict == VERDICT_REJECT_NO_BACKEND || verdict == VERDICT_REJECT_NO_SERVICE;
	const struct address *node = primary_address(is_ipv4_packet(packet));

	return service || sent_by_node(hook) || !node || is_unspecified(node) ? packet->tuple.destination : *node;
}

/* May the packet get an ICMP error? Later fragments and ICMP errors get none, nor do packets sent to or by more than
 * one host (RFC 1122 section 3.2.2, RFC 4443 section 2.4). A packet with ports is neither of the first two. */
static __always_inline bool may_get_error(context *ctx, enum hook hook, const struct packet *packet)
{
	const struct address *sender = &packet->tuple.source;
	__u32 type = packet_type(ctx);

	return packet->has_ports && !is_multicast_or_reserved(sender) &&
	       (stays_on_node(hook) || !is_loopback_or_unspecified(sender)) && type != PACKET_BROADCAST &&
	       type != PACKET_MULTICAST;
}

/* Gives a translated packet the addresses and ports that its sender has sent: the entry of its replies has them. */
static __always_inline int restore_packet(context *ctx, struct packet *packet)
{
	struct scratch *scratch = this_scratch();
	struct tuple key, sent;
	struct flow *flow;

	/* Of a packet that the stack was to forward, only the destination has changed. */
	if (config.passages_a_cpu && scratch && is_same_packet(&scratch->passage, packet))
		key = reversed(&scratch->passage.target);
	else
		key = reversed(&packet->tuple);
	flow = find_flow(&key, now_ns(), false);

	if (!flow)
		return -1;
	sent = partner_key(flow, packet->tuple.protocol);
	return rewrite_packet(ctx, packet, &sent);
}

/* Returns how many bytes are quoted: as many as every host accepts (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4),
 * without the padding that a link has put behind the packet. */
static __always_inline __u32 quoted_bytes(context *ctx, const struct packet *packet, bool ipv4)
{
	__u32 bytes = packet->l4_offset + packet->l4_bytes - L2_BYTES;
	__u32 max = (ipv4 ? IPV4_MTU_MIN : IPV6_MTU_MIN) - ip_header_bytes(ipv4) - sizeof(struct icmp_error);

	if (bytes > packet_bytes(ctx) - L2_BYTES)
		bytes = packet_bytes(ctx) - L2_BYTES;
	return bytes < max ? bytes : max;
}

/* Makes the packet the error about itself. Returns negative where that is impossible or too many were sent: the
 * packet is then dropped. */
static __always_inline int become_error(context *ctx, enum hook hook, struct packet *packet, enum verdict verdict,
					__u32 mtu)
{
	bool ipv4 = is_ipv4_packet(packet);
	struct scratch *scratch = this_scratch();
	__u32 quoted;

	if (!scratch || !may_get_error(ctx, hook, packet) || !icmp_allowed())
		return -1;
	if ((verdict == VERDICT_ANSWER_TOO_BIG || verdict == VERDICT_ANSWER_TTL_EXPIRED) && restore_packet(ctx, packet))
		return -1;
	quoted = quoted_bytes(ctx, packet, ipv4);
	if (change_length(ctx, L2_BYTES + quoted) || make_readable(ctx, L2_BYTES + quoted) ||
	    settle_checksum(ctx, packet))
		return -1;
	scratch->icmp.sent.source = error_source(hook, packet, verdict);
	scratch->icmp.sent.destination = packet->tuple.source;
	return build_icmp_error(ctx, ipv4, &scratch->icmp.sent, error_of(ipv4, verdict, mtu), quoted);
}

/* Makes an echo request its reply: the type changes, and source and destination change places. */
static __always_inline int become_echo_reply(context *ctx, struct packet *packet)
{
	struct tuple back = reversed(&packet->tuple);
	bool ipv4 = is_ipv4_packet(packet);
	__u8 type = ipv4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
	__be16 old, new;

	if (load_bytes(ctx, packet->l4_offset, &old, sizeof(old)))
		return -1;
	new = (old & bpf_htons(0xff)) | bpf_htons(type << 8);
	if (rewrite_addresses(ctx, packet, &back) || write_ttl(ctx, packet, ICMP_TTL) ||
	    replace_l4_checksum(ctx, checksum_offset(packet), old, new, sizeof(new)) ||
	    store_bytes(ctx, packet->l4_offset, &new, sizeof(new)))
		return -1;
	return swap_macs(ctx);
}

/* Makes the packet the reply that a step asks for. It leaves by the device that the packet came in by, or goes up to
 * the node's stack. Returns the hook's action. */
__noinline int send_icmp_reply(context *ctx, __u32 hook, __u64 bits)
{
	union step step = { .bits = bits };
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};
	int error;

	if (parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return ACTION_DROP;
	if (step.verdict == VERDICT_ANSWER_ECHO)
		error = become_echo_reply(ctx, &packet);
	else
		error = become_error(ctx, hook, &packet, step.verdict, step.mtu);
	if (error)
		return ACTION_DROP;
	write_mark(ctx, MARK_FORWARDED);
	return is_ingress(hook) ? send_back(ctx) : redirect_in(packet_device(ctx));
}
