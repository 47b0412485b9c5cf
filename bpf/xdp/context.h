/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an XDP hook can do with its packet: the functions of skb/context.h over struct xdp_md. There is no sk_buff
 * yet, so a packet has no mark, no segments and no checksum but those in its headers; abilities.h names what is
 * absent. */
#pragma once

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdbool.h>

#include "abilities.h"
#include "config.h"
#include "cursor.h"

#define CONTEXT_SECTION "xdp"
#define CONTEXT_ABILITIES 0

typedef struct xdp_md context;

/* What a program returns. */
enum action {
	ACTION_PASS = XDP_PASS,
	ACTION_DROP = XDP_DROP,
};

/* Both are pointers, in 64 bits, before paths meet: where the compiler joins them and widens the fields of 32 bits
 * afterwards, the verifier sees arithmetic on pointers. */
static __always_inline struct cursor readable_bytes(context *ctx)
{
	struct cursor cursor = { (void *)(long)ctx->data, (void *)(long)ctx->data_end };

	barrier_var(cursor.data);
	barrier_var(cursor.end);
	return cursor;
}

/* The length of the frame in all its buffers. The verifier allows the difference of both pointers, but no other
 * arithmetic on the end, so the compiler must not reorder it. */
static __always_inline __u32 packet_bytes(context *ctx)
{
	__u32 bytes = config.frags ? bpf_xdp_get_buff_len(ctx) : ctx->data_end - ctx->data;

	barrier_var(bytes);
	return bytes;
}

static __always_inline int make_readable(context *ctx, __u32 bytes)
{
	return packet_bytes(ctx) < bytes ? -1 : 0;
}

static __always_inline __be16 packet_ethertype(context *ctx)
{
	struct cursor cursor = readable_bytes(ctx);
	struct ethhdr *ethernet = header_at(&cursor, 0, sizeof(*ethernet));

	return ethernet ? ethernet->h_proto : 0;
}

static __always_inline __u32 packet_device(context *ctx)
{
	return ctx->ingress_ifindex;
}

/* The destination MAC address says whether the packet was sent to more than one host: its first bit is set then. */
static __always_inline __u32 packet_type(context *ctx)
{
	struct cursor cursor = readable_bytes(ctx);
	struct ethhdr *ethernet = header_at(&cursor, 0, sizeof(*ethernet));

	return ethernet && !(ethernet->h_dest[0] & 1) ? PACKET_HOST : PACKET_MULTICAST;
}

/* Returns `bytes` bytes at `offset`, or NULL where the packet is shorter; `bytes` is a constant. The compiler must
 * not know what the first line has excluded: it would leave out the mask that the verifier needs. */
static __always_inline void *bytes_at(context *ctx, __u32 offset, __u32 bytes)
{
	struct cursor cursor = readable_bytes(ctx);

	if (offset > OFFSET_MASK)
		return NULL;
	barrier_var(offset);
	return header_at(&cursor, offset & OFFSET_MASK, bytes);
}

static __always_inline int load_bytes(context *ctx, __u32 offset, void *to, __u32 bytes)
{
	void *from = bytes_at(ctx, offset, bytes);

	if (!from)
		return -1;
	__builtin_memcpy(to, from, bytes);
	return 0;
}

static __always_inline int store_bytes(context *ctx, __u32 offset, const void *from, __u32 bytes)
{
	void *to = bytes_at(ctx, offset, bytes);

	if (!to)
		return -1;
	__builtin_memcpy(to, from, bytes);
	return 0;
}

/* The one's complement sum of a change (RFC 1624): `from` leaves, `to` comes; a difference comes as `to`. */
static __always_inline __u16 changed_checksum(__u16 checksum, __u32 from, __u32 to, __u64 bytes)
{
	__u64 sum = (__u16)~checksum;

	sum += bytes ? (__u64)(__u32)~from + to : to;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* A UDP checksum of zero means "none" (RFC 768): it stays, and a sum that becomes zero is written as its complement. */
static __always_inline int replace_l4_checksum(context *ctx, __u32 offset, __u64 from, __u64 to, __u64 flags)
{
	__u16 *checksum = bytes_at(ctx, offset, sizeof(*checksum)), sum;
	bool optional = flags & BPF_F_MARK_MANGLED_0;

	if (!checksum)
		return -1;
	if (optional && !*checksum)
		return 0;
	sum = changed_checksum(*checksum, from, to, flags & BPF_F_HDR_FIELD_MASK);
	*checksum = optional && !sum ? 0xffff : sum;
	return 0;
}

/* An IPv4 header's changes alike: the number of bytes is in the flags, too. */
#define replace_l3_checksum replace_l4_checksum

static __always_inline int replace_ipv6_addresses_checksum(context *ctx, __u32 offset, __s64 difference, __u64 flags)
{
	return replace_l4_checksum(ctx, offset, 0, difference, flags);
}

static __always_inline int change_length(context *ctx, __u32 bytes)
{
	return bpf_xdp_adjust_tail(ctx, (int)bytes - (int)packet_bytes(ctx));
}

/* The Ethernet header moves to the new beginning. */
static __always_inline int insert_room(context *ctx, __u32 bytes)
{
	struct ethhdr ethernet;

	if (load_bytes(ctx, 0, &ethernet, sizeof(ethernet)) || bpf_xdp_adjust_head(ctx, -(int)bytes))
		return -1;
	return store_bytes(ctx, 0, &ethernet, sizeof(ethernet));
}

/* Moves `size` bytes of the packet forward by `distance`; both are even. What is read next is never overwritten. */
static __always_inline int move_forward(context *ctx, __u32 offset, __u32 distance, __u32 size)
{
	struct cursor cursor = readable_bytes(ctx);
	__u16 *to = header_at(&cursor, offset, size), *from = header_at(&cursor, offset + (distance & 0x1f), size);

	if (!to || !from)
		return -1;
	for (__u32 i = 0; i < size / sizeof(*to); i++)
		to[i] = from[i];
	return 0;
}

/* The headers in front move to the new beginning. The function is global for a stack of its own. */
__noinline int insert_behind_ip(context *ctx, bool ipv4, __u32 bytes)
{
	if (bpf_xdp_adjust_head(ctx, -(int)bytes) || move_forward(ctx, 0, bytes, ETH_HLEN + 20))
		return -1;
	return ipv4 ? 0 : move_forward(ctx, ETH_HLEN + 20, bytes, 20);
}

static __always_inline int prepend_room(context *ctx, __u32 bytes)
{
	return bpf_xdp_adjust_head(ctx, -(int)bytes);
}

static __always_inline int redirect_out(__u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* The packet leaves by the device that it came in by. */
static __always_inline int send_back(context *ctx)
{
	return XDP_TX;
}

/* All of a packet is readable, and no device has summed it. */
#define read_headers readable_bytes
#define store_summed store_bytes

/* Defines a function for what a packet without sk_buff does not have: it does nothing but to return `result`. */
#define ABSENT(result, function, ...)                                                                                  \
	static __always_inline int function(__VA_ARGS__)                                                               \
	{                                                                                                              \
		return result;                                                                                         \
	}

ABSENT(0, has_tag, context *ctx, bool arrives) /* tags are in the frame: its EtherType is not IP's */
ABSENT(0, write_mark, context *ctx, __u32 mark)
ABSENT(0, write_note, context *ctx, __u32 note)
ABSENT(0, read_note, context *ctx)
ABSENT(0, add_to_device_sum, context *ctx, __u32 difference)
ABSENT(0, segment_bytes, context *ctx)
ABSENT(0, read_mark, context *ctx)
ABSENT(0, left_to_device, context *ctx, __u32 offset)
ABSENT(0, copy_packet, context *ctx, void *to, __u32 max)
ABSENT(-EOPNOTSUPP, replace_packet, context *ctx, __u32 offset, const void *from, __u32 length, __u32 max)
ABSENT(-EOPNOTSUPP, remove_behind_ip, context *ctx, bool ipv4, __u32 bytes)
ABSENT(-EOPNOTSUPP, queue_copy, context *ctx)
ABSENT(-EOPNOTSUPP, redirect_in, __u32 ifindex)
ABSENT(-EOPNOTSUPP, redirect_into_pod, __u32 ifindex)
ABSENT(-EOPNOTSUPP, redirect_to_neighbour, __u32 ifindex, __u32 family, const void *address)
