/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answers to those whose packets end here: who gets one, whose it is, and what it says. The packet itself becomes the answer. */
#pragma once

#include <linux/if_packet.h>

#include "conntrack.h"
#include "message.h"
#include "skb.h"

/* What a program returns from one of its parts to have it go on in another: beside tc's actions, which are smaller. An
 * answer's verdict and MTU are in it. The parts are functions that the verifier looks at one by one, each with its own
 * stack; a packet that needs only the first pays for nothing else. */
#define STEP_WITHOUT_PORTS 0x100
#define STEP_ANSWER 0x200
#define STEP_RELEASE 0x400 /* with an action: held pieces follow */
#define STEP_VERDICT_MASK 0xff
#define STEP_MTU_SHIFT 16

/* Has a hook of ours sent the packet here? Then it is what it should be, and counted. */
static __always_inline bool is_forwarded(context *ctx)
{
	if (ctx->mark != MARK_FORWARDED)
		return false;
	ctx->mark = 0;
	return true;
}

static __always_inline struct icmp_error icmp4_error(enum verdict verdict, __u32 mtu)
{
	if (verdict == VERDICT_ANSWER_TTL_EXPIRED)
		return (struct icmp_error){ .type = ICMP_TIME_EXCEEDED };
	if (verdict == VERDICT_ANSWER_TOO_BIG)
		return (struct icmp_error){ .type = ICMP_UNREACHABLE,
					    .code = ICMP_FRAGMENTATION_NEEDED,
					    .field = bpf_htonl(mtu ? mtu : IPV4_MTU_MIN) };
	return (struct icmp_error){ .type = ICMP_UNREACHABLE, .code = ICMP_PORT };
}

static __always_inline struct icmp_error icmp6_error(enum verdict verdict, __u32 mtu)
{
	if (verdict == VERDICT_ANSWER_TTL_EXPIRED)
		return (struct icmp_error){ .type = ICMPV6_TIME_EXCEEDED };
	if (verdict == VERDICT_ANSWER_TOO_BIG)
		return (struct icmp_error){ .type = ICMPV6_TOO_BIG,
					    .field = bpf_htonl(mtu > IPV6_MTU_MIN ? mtu : IPV6_MTU_MIN) };
	return (struct icmp_error){ .type = ICMPV6_UNREACHABLE, .code = ICMPV6_PORT };
}

/* Whose error it is. A service speaks for itself; on the way it is the node that gives up, but the node's own stack
 * would take its own address for a forged one. */
static __always_inline struct address answering_address(enum hook hook, const struct packet *packet,
							enum verdict verdict)
{
	bool service = verdict == VERDICT_REJECT_NO_BACKEND || verdict == VERDICT_REJECT_NO_SERVICE;
	struct address node = packet->ethertype == bpf_htons(ETH_P_IP) ? config.node_ipv4 : config.node_ipv6;

	return service || hook > HOOK_FROM_UPLINK || is_unspecified(&node) ? packet->tuple.destination : node;
}

/* RFC 1122 section 3.2.2, RFC 4443 section 2.4: no answer to later fragments, to ICMP errors (what has ports is neither),
 * and to what was sent to or by more than one host. */
static __always_inline bool may_be_answered(context *ctx, enum hook hook, const struct packet *packet)
{
	const struct address *sender = &packet->tuple.source;

	return packet->has_ports && !is_multicast(sender) && (hook == HOOK_TO_SELF || !is_loopback(sender)) &&
	       ctx->pkt_type != PACKET_BROADCAST && ctx->pkt_type != PACKET_MULTICAST;
}

/* Makes a packet what its sender has sent, before it was translated: what the replies to it become. */
static __always_inline int restore_packet(context *ctx, struct packet *packet)
{
	struct tuple key = reversed(&packet->tuple), sent;
	struct flow *flow = bpf_map_lookup_elem(&flows, &key);

	if (!flow)
		return -1;
	sent = partner_key(flow, packet->tuple.protocol);
	return rewrite_packet(ctx, packet, &sent);
}

/* How much of the packet is quoted: as much as every host takes (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4), and
 * nothing that a link has put behind the packet. */
static __always_inline __u32 quoted_bytes(context *ctx, const struct packet *packet)
{
	__u32 max = packet->ethertype == bpf_htons(ETH_P_IP) ? IPV4_MTU_MIN - sizeof(struct icmp4_answer)
							     : IPV6_MTU_MIN - sizeof(struct icmp6_answer);
	__u32 bytes = packet->l4_offset + packet->l4_bytes - ETH_HLEN;

	if (bytes > ctx->len - ETH_HLEN)
		bytes = ctx->len - ETH_HLEN;
	return bytes < max ? bytes : max;
}

/* Makes the packet the error. Negative where that is not possible, or too many were sent: it is to be dropped. */
static __always_inline int answer_error(context *ctx, enum hook hook, struct packet *packet, enum verdict verdict,
					__u32 mtu)
{
	__u32 quoted = quoted_bytes(ctx, packet);
	struct tuple ends = {};

	if (!may_be_answered(ctx, hook, packet) || !icmp_allowed())
		return -1;
	if ((verdict == VERDICT_ANSWER_TOO_BIG || verdict == VERDICT_ANSWER_TTL_EXPIRED) && restore_packet(ctx, packet))
		return -1;
	if (bpf_skb_change_tail(ctx, ETH_HLEN + quoted, 0) || bpf_skb_pull_data(ctx, ETH_HLEN + quoted) ||
	    settle_checksum(ctx, packet))
		return -1;
	ends.source = answering_address(hook, packet, verdict);
	ends.destination = packet->tuple.source;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return answer_ipv4(ctx, &ends, icmp4_error(verdict, mtu), quoted);
	return answer_ipv6(ctx, &ends, icmp6_error(verdict, mtu), quoted);
}

/* Makes an echo request its reply: another type, and the addresses change places. */
static __always_inline int answer_echo(context *ctx, struct packet *packet)
{
	struct tuple back = reversed(&packet->tuple);
	__u8 macs[2 * ETH_ALEN], type;
	bool ipv4 = packet->ethertype == bpf_htons(ETH_P_IP);
	__be16 old, new;

	type = ipv4 ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY;
	if (bpf_skb_load_bytes(ctx, 0, macs, sizeof(macs)) ||
	    bpf_skb_load_bytes(ctx, packet->l4_offset, &old, sizeof(old)))
		return -1;
	new = (old & bpf_htons(0xff)) | bpf_htons(type << 8);
	if (rewrite_addresses(ctx, packet, &back) || write_ttl(ctx, packet, ICMP_TTL) ||
	    bpf_l4_csum_replace(ctx, checksum_offset(packet), old, new, sizeof(new)) ||
	    bpf_skb_store_bytes(ctx, packet->l4_offset, &new, sizeof(new), 0))
		return -1;
	return write_macs(ctx, macs + ETH_ALEN, macs);
}

/* The part that answers, out of the device that the packet came in by, or up to the node's stack. */
__noinline int answer(struct __sk_buff *ctx, __u32 hook, __u32 step)
{
	enum verdict verdict = step & STEP_VERDICT_MASK;
	struct cursor cursor = read_context(ctx);
	struct packet packet = {};
	int error;

	if (parse_packet(ctx, &cursor, ctx->protocol, &packet) != PARSE_IP)
		return TC_ACT_SHOT;
	if (verdict == VERDICT_ANSWER_ECHO)
		error = answer_echo(ctx, &packet);
	else
		error = answer_error(ctx, hook, &packet, verdict, step >> STEP_MTU_SHIFT);
	if (error)
		return TC_ACT_SHOT;
	ctx->mark = MARK_FORWARDED;
	return bpf_redirect(ctx->ifindex, hook <= HOOK_FROM_UPLINK ? 0 : BPF_F_INGRESS);
}
