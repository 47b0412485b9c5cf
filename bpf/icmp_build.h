/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Builds ICMP errors (RFC 792, RFC 4443) of the packets that they are about: the packet is quoted and returns to its
 * sender. A CPU sends at most 1000 in a second and 50 at once, as the kernel does. */
#pragma once

#include "clock.h"
#include "maps.h"
#include "rewrite.h"

/* Types, and codes of "unreachable": <linux/icmp.h> needs headers that this target lacks. */
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

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 field; /* the MTU, or 0 */
};

struct icmp4_reply {
	struct iphdr ip;
	struct icmp_error icmp;
};

struct icmp6_reply {
	struct ipv6hdr ip;
	struct icmp_error icmp;
};

/* Takes one message from this CPU's budget. Returns false where it is spent. */
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

static __always_inline __u16 checksum(__u32 sum)
{
	return ~fold(fold(sum));
}

/* A device to which the quoted packet's checksum is left would write it into the quotation, and the ICMP checksum
 * would be wrong. A program cannot stop the device, but the write changes nothing where the checksum already is what
 * the device will write: half of what the other words lack, since the device sums the checksum too. */
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
	if (store_bytes(ctx, offset, &settled, sizeof(settled)))
		return -1;
	lacks = 0xffff - sum_words(ctx, packet->l4_offset, IPV6_MTU_MIN / 2, 0) % 0xffff;
	settled = (lacks & 1 ? lacks + 0xffff : lacks) / 2; /* modulo 0xffff, which is odd */
	return store_bytes(ctx, offset, &settled, sizeof(settled));
}

/* Puts an IPv4 and an ICMP header in front of the `quoted` bytes that follow the Ethernet header; `ends` are the
 * error's own source and destination. Returns 0, or negative with the packet in an unusable state. */
static __always_inline int build_icmp4_error(context *ctx, const struct tuple *ends, struct icmp_error error,
					     __u32 quoted)
{
	struct icmp4_reply reply = {
		.ip = { .version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(reply) + quoted),
			.ttl = ICMP_TTL,
			.protocol = IPPROTO_ICMP,
			.saddr = ends->source.word[3],
			.daddr = ends->destination.word[3] },
		.icmp = error,
	};
	__u32 sum;

	if (insert_room(ctx, sizeof(reply)) || swap_macs(ctx))
		return -1;
	sum = fold(bpf_csum_diff(NULL, 0, (__be32 *)&reply.icmp, sizeof(reply.icmp), 0));
	reply.icmp.checksum = checksum(sum_words(ctx, L2_BYTES + sizeof(reply), IPV6_MTU_MIN / 2, sum));
	reply.ip.check = checksum(bpf_csum_diff(NULL, 0, (__be32 *)&reply.ip, sizeof(reply.ip), 0));
	return store_summed(ctx, L2_BYTES, &reply, sizeof(reply));
}

/* As build_icmp4_error, for IPv6. */
static __always_inline int build_icmp6_error(context *ctx, const struct tuple *ends, struct icmp_error error,
					     __u32 quoted)
{
	struct icmp6_reply reply = {
		.ip = { .version = 6,
			.payload_len = bpf_htons(sizeof(struct icmp_error) + quoted),
			.nexthdr = IPPROTO_ICMPV6,
			.hop_limit = ICMP_TTL },
		.icmp = error,
	};
	__u32 sum;

	__builtin_memcpy(&reply.ip.saddr, &ends->source, sizeof(reply.ip.saddr));
	__builtin_memcpy(&reply.ip.daddr, &ends->destination, sizeof(reply.ip.daddr));
	if (insert_room(ctx, sizeof(reply)) || swap_macs(ctx))
		return -1;
	/* The pseudo header of RFC 8200 section 8.1: addresses, length, protocol. */
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&reply.ip.saddr, 2 * sizeof(struct in6_addr), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&reply.icmp, sizeof(reply.icmp), sum);
	sum = fold(sum) + reply.ip.payload_len + bpf_htons(IPPROTO_ICMPV6);
	reply.icmp.checksum = checksum(sum_words(ctx, L2_BYTES + sizeof(reply), IPV6_MTU_MIN / 2, sum));
	return store_summed(ctx, L2_BYTES, &reply, sizeof(reply));
}
