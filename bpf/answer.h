/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answers: ICMP errors (RFC 792, RFC 4443) to those whose packets end here, and echo replies. The packet itself becomes the
 * answer, an error with its headers quoted, and goes back where it came from. At most 1000 errors a second per CPU, 50 at
 * once, as the kernel does. */
#pragma once

#include <linux/if_packet.h>

#include "clock.h"
#include "conntrack.h"
#include "skb.h"

#define ICMP_BURST 50
#define ICMP_INTERVAL_NS (NS_PER_S / 1000)
#define ICMP_TTL 64
#define ICMP_UNREACHABLE 3
#define ICMP_PORT 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMP_TIME_EXCEEDED 11
#define ICMP_ECHO_REPLY 0
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PORT 4
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_ECHO_REPLY 129
#define QUOTE_MAX 120 /* an IP header with options or extensions, and a TCP header */
#define IPV4_MTU_MIN 576 /* what every host takes (RFC 1122 section 3.3.2, RFC 8200 section 5) */
#define IPV6_MTU_MIN 1280

/* What a program returns from one of its parts to have it go on in another: beside tc's actions, which are smaller. An
 * answer's verdict and MTU are in it. The parts are functions that the verifier looks at one by one, each with its own
 * stack; a packet that needs only the first pays for nothing else. */
#define STEP_WITHOUT_PORTS 0x100
#define STEP_ANSWER 0x200
#define STEP_VERDICT_MASK 0xff
#define STEP_MTU_SHIFT 16

/* Set on packets that were redirected to a device, so that the device's own hook lets them be. */
#define MARK_FORWARDED 0x4b500000

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 field; /* the MTU, or nothing */
};

struct icmp4_answer {
	struct iphdr ip;
	struct icmp_error icmp;
};

struct icmp6_answer {
	struct ipv6hdr ip;
	struct icmp_error icmp;
};

static __always_inline bool icmp_allowed(void)
{
	__u64 now = now_ns(), earned;
	struct icmp_budget *budget;
	__u32 zero = 0;

	budget = bpf_map_lookup_elem(&icmp_budget, &zero);
	if (!budget)
		return false;
	earned = (now - budget->refilled_ns) / ICMP_INTERVAL_NS;
	if (earned) {
		budget->tokens = budget->tokens + earned > ICMP_BURST ? ICMP_BURST : budget->tokens + earned;
		budget->refilled_ns = now;
	}
	if (!budget->tokens)
		return false;
	budget->tokens--;
	return true;
}

/* A sum of 16-bit words (RFC 1071) without its carries, in 17 bits. */
static __always_inline __u32 fold(__u32 sum)
{
	return (sum & 0xffff) + (sum >> 16);
}

static __always_inline __u16 checksum(__u32 sum)
{
	return ~fold(fold(sum));
}

/* `sum` and the sum of the packet's words from `offset` to its end, an even number of at most QUOTE_MAX bytes away. Not
 * static, so that the verifier looks at it once. */
__noinline __u32 sum_words(struct __sk_buff *ctx, __u32 offset, __u32 sum)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *word = data + (offset & 0x7f);

	for (int i = 0; i < QUOTE_MAX / 2; i++) {
		if ((void *)(word + i + 1) > end)
			break;
		sum += word[i];
	}
	return sum;
}

/* How much of the transport header is quoted: enough for the sender to find its socket, and as much as a checksum that
 * is left to the device needs to stay in the packet. */
static __always_inline __u32 quoted_bytes(const struct packet *packet)
{
	if (packet->tuple.protocol == IPPROTO_TCP)
		return sizeof(struct tcphdr);
	return packet->tuple.protocol == IPPROTO_SCTP ? sizeof(struct sctp_header) : sizeof(struct udphdr);
}

/* Room for `bytes` in front of the network header, and a way back. */
static __always_inline int turn_back(context *ctx, __u32 bytes)
{
	__u8 macs[2 * ETH_ALEN];

	if (bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_MAC, 0) || bpf_skb_load_bytes(ctx, 0, macs, sizeof(macs)))
		return -1;
	return write_macs(ctx, macs + ETH_ALEN, macs);
}

static __always_inline int answer_ipv4(context *ctx, const struct tuple *ends, struct icmp_error error, __u32 quoted)
{
	struct icmp4_answer answer = {
		.ip = { .version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(answer) + quoted),
			.ttl = ICMP_TTL,
			.protocol = IPPROTO_ICMP,
			.saddr = ends->source.word[3],
			.daddr = ends->destination.word[3] },
		.icmp = error,
	};
	__u32 sum;

	if (turn_back(ctx, sizeof(answer)))
		return -1;
	sum = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), 0));
	answer.icmp.checksum = checksum(sum_words(ctx, ETH_HLEN + sizeof(answer), sum));
	answer.ip.check = checksum(bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int answer_ipv6(context *ctx, const struct tuple *ends, struct icmp_error error, __u32 quoted)
{
	struct icmp6_answer answer = {
		.ip = { .version = 6,
			.payload_len = bpf_htons(sizeof(struct icmp_error) + quoted),
			.nexthdr = IPPROTO_ICMPV6,
			.hop_limit = ICMP_TTL },
		.icmp = error,
	};
	__u32 sum;

	__builtin_memcpy(&answer.ip.saddr, &ends->source, sizeof(answer.ip.saddr));
	__builtin_memcpy(&answer.ip.daddr, &ends->destination, sizeof(answer.ip.daddr));
	if (turn_back(ctx, sizeof(answer)))
		return -1;
	/* The pseudo header of RFC 8200 section 8.1: addresses, length, protocol. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(struct in6_addr), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), sum);
	sum = fold(sum) + answer.ip.payload_len + bpf_htons(IPPROTO_ICMPV6);
	answer.icmp.checksum = checksum(sum_words(ctx, ETH_HLEN + sizeof(answer), sum));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
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

	return service || hook == HOOK_TO_UPLINK || is_unspecified(&node) ? packet->tuple.destination : node;
}

/* RFC 1122 section 3.2.2, RFC 4443 section 2.4: no answer to later fragments, to ICMP errors (what has ports is neither),
 * and to what was sent to or by more than one host. */
static __always_inline bool may_be_answered(context *ctx, const struct packet *packet)
{
	const struct address *sender = &packet->tuple.source;

	return packet->has_ports && !is_multicast(sender) && !is_loopback(sender) &&
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

/* Makes the packet the error. Negative where that is not possible, or too many were sent: it is to be dropped. */
static __always_inline int answer_error(context *ctx, enum hook hook, struct packet *packet, enum verdict verdict,
					__u32 mtu)
{
	__u32 end = packet->l4_offset + quoted_bytes(packet);
	struct tuple ends = {};

	if (end > ETH_HLEN + QUOTE_MAX || !may_be_answered(ctx, packet) || !icmp_allowed())
		return -1;
	if ((verdict == VERDICT_ANSWER_TOO_BIG || verdict == VERDICT_ANSWER_TTL_EXPIRED) && restore_packet(ctx, packet))
		return -1;
	if (bpf_skb_change_tail(ctx, end, 0) || bpf_skb_pull_data(ctx, end))
		return -1;
	ends.source = answering_address(hook, packet, verdict);
	ends.destination = packet->tuple.source;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return answer_ipv4(ctx, &ends, icmp4_error(verdict, mtu), end - ETH_HLEN);
	return answer_ipv6(ctx, &ends, icmp6_error(verdict, mtu), end - ETH_HLEN);
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
	if (rewrite_packet(ctx, packet, &back) || write_ttl(ctx, packet, ICMP_TTL) ||
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
	return bpf_redirect(ctx->ifindex, hook == HOOK_TO_UPLINK ? BPF_F_INGRESS : 0);
}
