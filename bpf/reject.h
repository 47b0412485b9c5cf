/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Answers a packet with "port unreachable" (ICMP RFC 792, ICMPv6 RFC 4443): the packet itself becomes the answer, with
 * its headers quoted, and goes back where it came from. At most 1000 a second per CPU, 50 at once, as the kernel does. */
#pragma once

#include "clock.h"
#include "skb.h"

#define ICMP_BURST 50
#define ICMP_INTERVAL_NS (NS_PER_S / 1000)
#define ICMP_TTL 64
#define ICMP_UNREACHABLE 3
#define ICMP_PORT 3
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PORT 4
#define QUOTE_MAX 120 /* an IP header with options or extensions, and a TCP header */

struct icmp_error { /* RFC 792, RFC 4443 section 3.1 */
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 unused;
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

static __always_inline int answer_ipv4(context *ctx, const struct packet *packet, __u32 quoted)
{
	struct icmp4_answer answer = {
		.ip = { .version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(answer) + quoted),
			.ttl = ICMP_TTL,
			.protocol = IPPROTO_ICMP,
			.saddr = packet->tuple.destination.word[3],
			.daddr = packet->tuple.source.word[3] },
		.icmp = { .type = ICMP_UNREACHABLE, .code = ICMP_PORT },
	};
	__u32 sum;

	if (turn_back(ctx, sizeof(answer)))
		return -1;
	sum = fold(bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), 0));
	answer.icmp.checksum = checksum(sum_words(ctx, ETH_HLEN + sizeof(answer), sum));
	answer.ip.check = checksum(bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int answer_ipv6(context *ctx, const struct packet *packet, __u32 quoted)
{
	struct icmp6_answer answer = {
		.ip = { .version = 6,
			.payload_len = bpf_htons(sizeof(struct icmp_error) + quoted),
			.nexthdr = IPPROTO_ICMPV6,
			.hop_limit = ICMP_TTL },
		.icmp = { .type = ICMPV6_UNREACHABLE, .code = ICMPV6_PORT },
	};
	__u32 sum;

	__builtin_memcpy(&answer.ip.saddr, &packet->tuple.destination, sizeof(answer.ip.saddr));
	__builtin_memcpy(&answer.ip.daddr, &packet->tuple.source, sizeof(answer.ip.daddr));
	if (turn_back(ctx, sizeof(answer)))
		return -1;
	/* The pseudo header of RFC 8200 section 8.1: addresses, length, protocol. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(struct in6_addr), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), sum);
	sum = fold(sum) + answer.ip.payload_len + bpf_htons(IPPROTO_ICMPV6);
	answer.icmp.checksum = checksum(sum_words(ctx, ETH_HLEN + sizeof(answer), sum));
	return bpf_skb_store_bytes(ctx, ETH_HLEN, &answer, sizeof(answer), BPF_F_RECOMPUTE_CSUM);
}

/* Makes the packet the answer. Negative where that is not possible, or too many were sent: it is to be dropped. */
static __always_inline int answer_unreachable(context *ctx, const struct packet *packet)
{
	__u32 end = packet->l4_offset + quoted_bytes(packet);

	if (!icmp_allowed() || bpf_skb_change_tail(ctx, end, 0))
		return -1;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return answer_ipv4(ctx, packet, end - ETH_HLEN);
	return answer_ipv6(ctx, packet, end - ETH_HLEN);
}
