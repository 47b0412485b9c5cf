/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tests on addresses; both families have one shape (kubypass.h). */
#pragma once

#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kubypass.h"

#define MAPPED_PREFIX bpf_htonl(0xffff) /* third word of ::ffff:0:0/96 */

static __always_inline struct address ipv4_address(__be32 word)
{
	return (struct address){ .word = { 0, 0, MAPPED_PREFIX, word } };
}

/* Copies the words of an IPv6 address. */
static __always_inline void copy_words(__be32 *to, const __be32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
	to[3] = from[3];
}

static __always_inline bool is_ipv4(const struct address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == MAPPED_PREFIX;
}

/* Returns the address's family as a bit of a set of families. */
static __always_inline __u8 family_bit(const struct address *address)
{
	return is_ipv4(address) ? FAMILY_IPV4 : FAMILY_IPV6;
}

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

/* Is the address all zero: ::, or none? */
static __always_inline bool is_unspecified(const struct address *address)
{
	return !address->word[0] && !address->word[1] && !address->word[2] && !address->word[3];
}

/* Returns 0.0.0.0 or ::, in the family of `address`. */
static __always_inline struct address unspecified_address(const struct address *address)
{
	return is_ipv4(address) ? ipv4_address(0) : (struct address){};
}

/* Does a socket reach its own node by this address? That is 127.0.0.0/8, ::1, 0.0.0.0 or ::. */
static __always_inline bool is_loopback_or_unspecified(const struct address *address)
{
	if (is_ipv4(address))
		return !address->word[3] || (address->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !address->word[0] && !address->word[1] && !address->word[2] && (address->word[3] & ~bpf_htonl(1)) == 0;
}

static __always_inline bool in_network(const struct address *address, const volatile struct network *network)
{
	return (address->word[0] & network->mask.word[0]) == network->address.word[0] &&
	       (address->word[1] & network->mask.word[1]) == network->address.word[1] &&
	       (address->word[2] & network->mask.word[2]) == network->address.word[2] &&
	       (address->word[3] & network->mask.word[3]) == network->address.word[3];
}

/* Is the address a multicast one, or IPv4's broadcast address or a reserved one (240.0.0.0/4)? */
static __always_inline bool is_multicast_or_reserved(const struct address *address)
{
	if (is_ipv4(address))
		return (address->word[3] & bpf_htonl(0xe0000000)) == bpf_htonl(0xe0000000);
	return (address->word[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* Can no packet on a network come from the address? The kernel takes 240.0.0.0/4 for addresses of hosts. */
static __always_inline bool is_martian(const struct address *address)
{
	__u32 word = bpf_ntohl(address->word[3]);

	if (is_ipv4(address))
		return !(word >> 24) || word >> 24 == 127 || word >> 28 == 14 || !~word;
	return is_multicast_or_reserved(address) || is_loopback_or_unspecified(address);
}

static __always_inline bool is_link_local(const struct address *address)
{
	if (is_ipv4(address))
		return (address->word[3] & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* Is the destination never routed? Multicast, broadcast and link-local addresses belong to the link. */
static __always_inline bool is_on_link_only(const struct address *address)
{
	return is_multicast_or_reserved(address) || is_link_local(address);
}
