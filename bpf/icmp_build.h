/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP messages (RFC 792, RFC 4443), and errors made of the packet that they are about: its headers and more are quoted, and it
 * goes back where it came from. At most 1000 a second per CPU, 50 at once, as the kernel does. */
#pragma once

#include "clock.h"
#include "maps.h"
#include "skb.h"

/* Types, and codes of "unreachable"; <linux/icmp.h> needs headers that this target lacks. */
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_PORT 3
#define ICMP_FRAGMENTATION_NEEDED 4
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_TOO_BIG 2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMETER_PROBLEM 4
#define ICMPV6_ECHO 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_PORT 4

#define ICMP_BURST 50
#define ICMP_INTERVAL_NS (NS_PER_S / 1000)
#define ICMP_TTL 64
#define IPV4_MTU_MIN 576 /* what every host takes (RFC 1122 section 3.3.2, RFC 8200 section 5); no error is longer */
#define IPV6_MTU_MIN 1280

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

/* `sum` and the sum of the packet's words from `offset` to its end, at most IPV6_MTU_MIN bytes away. Not static, so that
 * the verifier looks at it once. */
__noinline __u32 sum_words(struct __sk_buff *ctx, __u32 offset, __u32 sum)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *word = data + (offset & OFFSET_MASK);

	for (int i = 0; i < IPV6_MTU_MIN / 2; i++, word++) {
		if ((void *)(word + 1) > end)
			break;
		sum += *word;
	}
	if ((void *)word + 1 <= end)
		sum += bpf_htons(*(__u8 *)word << 8);
	return sum;
}

/* Is the transport's checksum left to the device (CHECKSUM_PARTIAL)? Then the kernel lets a change of what it covers be. */
static __always_inline int left_to_device(context *ctx, __u32 offset)
{
	__sum16 before, after;

	if (bpf_skb_load_bytes(ctx, offset, &before, sizeof(before)) || bpf_l4_csum_replace(ctx, offset, 0, 1, 0) ||
	    bpf_skb_load_bytes(ctx, offset, &after, sizeof(after)))
		return -1;
	if (before == after)
		return 1;
	return bpf_skb_store_bytes(ctx, offset, &before, sizeof(before), 0);
}

/* The device would sum the quoted packet and write that into it, and the ICMP checksum would be wrong. Nobody can tell it
 * not to; but it changes nothing where the checksum is what it will write: half of what the other words lack, since it
 * sums the checksum too. */
static __always_inline int settle_checksum(context *ctx, const struct packet *packet)
{
	__u32 offset = checksum_offset(packet), lacks;
	__u16 settled = 0;
	int left;

	if (packet->tuple.protocol == IPPROTO_SCTP)
		return 0;
	left = left_to_device(ctx, offset);
	if (left <= 0)
		return left;
	if (bpf_skb_store_bytes(ctx, offset, &settled, sizeof(settled), 0))
		return -1;
	lacks = 0xffff - sum_words(ctx, packet->l4_offset, 0) % 0xffff;
	settled = (lacks & 1 ? lacks + 0xffff : lacks) / 2; /* modulo 0xffff, which is odd */
	return bpf_skb_store_bytes(ctx, offset, &settled, sizeof(settled), 0);
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
