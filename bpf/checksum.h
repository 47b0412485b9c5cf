/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The sums of RFC 1071 over bytes of a packet. */
#pragma once

#include <linux/ip.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "context.h"
#include "cursor.h"

/* What every host accepts (RFC 1122 section 3.3.2, RFC 8200 section 5): no ICMP error is longer. */
#define IPV4_MTU_MIN 576
#define IPV6_MTU_MIN 1280

#define CHECKSUM_RIGHT 0xffff /* what bytes sum up to together with their checksum */

/* Adds the carries of a sum of 16-bit words (RFC 1071) to it, which leaves 17 bits. */
static __always_inline __u32 fold(__u32 sum)
{
	return (sum & 0xffff) + (sum >> 16);
}

/* Returns `sum` and the sum of the packet's words from `offset` on: of `bytes` bytes, at most IPV6_MTU_MIN, or up to
 * the packet's end. The function is global, so that the verifier looks at it once. */
__noinline __u32 sum_words(context *ctx, __u32 offset, __u32 bytes, __u32 sum)
{
	struct cursor cursor = readable_bytes(ctx);
	__u16 *word = cursor.data + (offset & OFFSET_MASK);

	for (__u32 i = 0; i < IPV6_MTU_MIN / 2 && i < bytes / 2; i++, word++) {
		if ((void *)(word + 1) > cursor.end)
			break;
		sum += *word;
	}
	if ((bytes & 1) && (void *)word + 1 <= cursor.end)
		sum += bpf_htons(*(__u8 *)word << 8);
	return sum;
}

/* Does the header's checksum tell that no bit has changed? A router has to look (RFC 1812 section 5.2.2): a packet
 * that we forward never reaches the stack's own check. */
static __always_inline bool has_right_checksum(context *ctx, const struct iphdr *ip)
{
	const __u32 *word = (const __u32 *)ip;
	__u64 sum;

	if (ip->ihl != 5)
		return fold(fold(sum_words(ctx, L2_BYTES, ip->ihl * 4, 0))) == CHECKSUM_RIGHT;
	sum = (__u64)word[0] + word[1] + word[2] + word[3] + word[4];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return fold(fold(sum)) == CHECKSUM_RIGHT;
}
