/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Builds ICMP errors (RFC 792, RFC 4443) of the packets that they are about: the packet is quoted and returns to its
 * sender. A CPU sends at most 1000 in a second and 50 at once, as the kernel does. */
#pragma once

#include <linux/icmpv6.h>

#include "clock.h"
#include "maps.h"
#include "rewrite.h"

/* Types of errors, and codes of "unreachable", of IPv4. */
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_PORT 3
#define ICMP_FRAGMENTATION_NEEDED 4

#define ICMP_BURST 50
#define ICMP_INTERVAL_NS (NS_PER_S / 1000)
#define ICMP_TTL 64

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 field; /* the MTU, or 0 */
};

static __always_inline __u32 ip_header_bytes(bool ipv4)
{
	return ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* Takes one message from this CPU's budget. Returns false where it is spent. */
static __always_inline bool icmp_allowed(void)
{
	__u64 now = now_ns(), earned;
	__u32 zero = 0;
	struct icmp_budget *budget = bpf_map_lookup_elem(&icmp_budget, &zero);

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

static __always_inline int write_icmp_ipv4_header(context *ctx, const struct tuple *ends, __u32 bytes)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.tot_len = bpf_htons(sizeof(ip) + bytes),
		.ttl = ICMP_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = ends->source.word[3],
		.daddr = ends->destination.word[3],
	};

	ip.check = checksum(bpf_csum_diff(NULL, 0, (__be32 *)&ip, sizeof(ip), 0));
	return store_summed(ctx, L2_BYTES, &ip, sizeof(ip));
}

static __always_inline int write_icmp_ipv6_header(context *ctx, const struct tuple *ends, __u32 bytes)
{
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = bpf_htons(bytes),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = ICMP_TTL,
	};

	__builtin_memcpy(&ip.saddr, &ends->source, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &ends->destination, sizeof(ip.daddr));
	return store_summed(ctx, L2_BYTES, &ip, sizeof(ip));
}

/* Puts an IP and an ICMP header in front of the `quoted` bytes that follow the Ethernet header; `ends` are the error's
 * own source and destination. Returns 0, or negative with the packet in an unusable state. */
static __always_inline int build_icmp_error(context *ctx, bool ipv4, const struct tuple *ends, struct icmp_error error,
					    __u32 quoted)
{
	__u32 bytes = sizeof(error) + quoted, header_bytes = ip_header_bytes(ipv4), sum;

	if (insert_room(ctx, header_bytes + sizeof(error)) || swap_macs(ctx))
		return -1;
	sum = fold(bpf_csum_diff(NULL, 0, (__be32 *)&error, sizeof(error), 0));
	if (!ipv4) { /* the pseudo header of RFC 8200 section 8.1: addresses, length, protocol */
		sum = fold(bpf_csum_diff(NULL, 0, (__be32 *)ends, BOTH_ADDRESSES, sum));
		sum += bpf_htons(bytes) + bpf_htons(IPPROTO_ICMPV6);
	}
	error.checksum = checksum(sum_words(ctx, L2_BYTES + header_bytes + sizeof(error), IPV6_MTU_MIN / 2, sum));
	if (ipv4 ? write_icmp_ipv4_header(ctx, ends, bytes) : write_icmp_ipv6_header(ctx, ends, bytes))
		return -1;
	return store_summed(ctx, L2_BYTES + header_bytes, &error, sizeof(error));
}
