/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a tc hook can do with its packet: the one seam between the datapath and struct __sk_buff. xdp/context.h has
 * the same functions; the build chooses one of the two by its include path. The helpers keep checksums right whether
 * the sender left them to the device (CHECKSUM_PARTIAL) or the device has summed the packet (CHECKSUM_COMPLETE). */
#pragma once

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>

#include "abilities.h"
#include "cursor.h"

#define CONTEXT_SECTION "tc"
#define CONTEXT_ABILITIES                                                                                              \
	(ABILITY_MARK | ABILITY_SEGMENTS | ABILITY_DEVICE_CHECKSUM | ABILITY_REDIRECT_IN | ABILITY_NEIGHBOUR |         \
	 ABILITY_COPY | ABILITY_PACKET_TYPE)
#define HEADERS_BYTES 128 /* what is made readable: Ethernet, IPv6 with a few extension headers, TCP */
#define VLAN_NUMBER 0xfff /* of a tag; the other bits are a priority */
#define CHECKSUM_IPV6 (1ULL << 7) /* BPF_F_IPV6, newer than some headers */

typedef struct __sk_buff context;

/* What a program returns. */
enum action {
	ACTION_PASS = TC_ACT_OK, /* on to the network stack, or out of the device */
	ACTION_DROP = TC_ACT_SHOT,
};

/* The bytes that can be read already. */
static __always_inline struct cursor readable_bytes(context *ctx)
{
	return (struct cursor){ (void *)(long)ctx->data, (void *)(long)ctx->data_end };
}

/* Makes the headers readable. */
static __always_inline struct cursor read_headers(context *ctx)
{
	if (ctx->data_end - ctx->data < HEADERS_BYTES && ctx->len > ctx->data_end - ctx->data)
		bpf_skb_pull_data(ctx, ctx->len < HEADERS_BYTES ? ctx->len : HEADERS_BYTES);
	return readable_bytes(ctx);
}

/* Makes `bytes` bytes readable. Returns 0, or negative where the packet is shorter. */
#define make_readable bpf_skb_pull_data

/* Does the packet carry a VLAN's tag (802.1Q, 802.1ad)? The kernel has taken the outer one out of the frame. That of
 * VLAN 0, which tells a priority, is removed from a packet that arrives. */
static __always_inline bool has_tag(context *ctx, bool arrives)
{
	return ctx->vlan_present &&
	       (!arrives || ctx->vlan_tci & VLAN_NUMBER || bpf_skb_vlan_pop(ctx) || ctx->vlan_present);
}

static __always_inline __be16 packet_ethertype(context *ctx)
{
	return ctx->protocol;
}

/* The length, with an Ethernet header where there is one. */
static __always_inline __u32 packet_bytes(context *ctx)
{
	return ctx->len;
}

/* The length of the payload of each segment that the packet will be cut into; 0: it will not be. */
static __always_inline __u32 segment_bytes(context *ctx)
{
	return ctx->gso_size;
}

/* The device that the packet arrives at, or leaves by. */
static __always_inline __u32 packet_device(context *ctx)
{
	return ctx->ifindex;
}

/* Whom the frame was sent to, as PACKET_HOST and others say. */
static __always_inline __u32 packet_type(context *ctx)
{
	return ctx->pkt_type;
}

static __always_inline __u32 read_mark(context *ctx)
{
	return ctx->mark;
}

static __always_inline void write_mark(context *ctx, __u32 mark)
{
	ctx->mark = mark;
}

/* Sends a note of 16 bits with a packet up into the network stack, for the hook of the device that it leaves by: as
 * `tc_index`, which the kernel copies to fragments and segments, and neither routes nor netfilter see. */
static __always_inline void write_note(context *ctx, __u32 note)
{
	/* The compiler would make one access to this field or another, which the verifier refuses. */
	asm volatile("*(u32 *)(%0 + %1) = %2"
		     :
		     : "r"(ctx), "i"(offsetof(struct __sk_buff, tc_classid)), "r"(note)
		     : "memory");
}

static __always_inline __u32 read_note(context *ctx)
{
	__u32 note;

	asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(note) : "r"(ctx), "i"(offsetof(struct __sk_buff, tc_index)));
	return note;
}

#define load_bytes bpf_skb_load_bytes

/* Writes bytes whose change the caller brings into the checksums. */
static __always_inline int store_bytes(context *ctx, __u32 offset, const void *from, __u32 bytes)
{
	return bpf_skb_store_bytes(ctx, offset, from, bytes, 0);
}

/* Writes bytes and brings their change into the device's sum of the packet. */
static __always_inline int store_summed(context *ctx, __u32 offset, const void *from, __u32 bytes)
{
	return bpf_skb_store_bytes(ctx, offset, from, bytes, BPF_F_RECOMPUTE_CSUM);
}

/* Brings a change into the IPv4 header's checksum at `offset`: of `bytes` (2 or 4) from `from` to `to`, or, where
 * `bytes` is 0, the difference `to` that bpf_csum_diff returned. */
#define replace_l3_checksum bpf_l3_csum_replace

/* The same for a transport checksum; `flags` are those of bpf_l4_csum_replace. */
#define replace_l4_checksum bpf_l4_csum_replace

/* Brings a change of IPv6 addresses into the transport checksum. IPv6 has no header checksum that would compensate
 * for the addresses in a sum that the device has taken over the packet. The kernel knows that since 6.16 (and in
 * stable ones); others refuse the flag before they change anything. */
static __always_inline int replace_ipv6_addresses_checksum(context *ctx, __u32 offset, __s64 difference, __u64 flags)
{
	return bpf_l4_csum_replace(ctx, offset, 0, difference, flags | CHECKSUM_IPV6) &&
			       bpf_l4_csum_replace(ctx, offset, 0, difference, flags)
		       ? -1
		       : 0;
}

/* Adds to the device's sum of the packet. This has no effect where no device has summed it. */
#define add_to_device_sum bpf_csum_update

/* Is the transport checksum at `offset` left to the device (CHECKSUM_PARTIAL)? The kernel then ignores a change of
 * what the checksum covers. Returns negative where the packet cannot be read. */
static __always_inline int left_to_device(context *ctx, __u32 offset)
{
	__u16 before, after;

	if (load_bytes(ctx, offset, &before, sizeof(before)) || bpf_l4_csum_replace(ctx, offset, 0, 1, 0) ||
	    load_bytes(ctx, offset, &after, sizeof(after)))
		return -1;
	if (before == after)
		return 1;
	return store_bytes(ctx, offset, &before, sizeof(before));
}

/* Cuts or extends the packet at its end, to `bytes` bytes. */
static __always_inline int change_length(context *ctx, __u32 bytes)
{
	return bpf_skb_change_tail(ctx, bytes, 0);
}

/* Makes room for `bytes` bytes behind the Ethernet header, or in front of a packet that has none. */
static __always_inline int insert_room(context *ctx, __u32 bytes)
{
	return bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_MAC, 0);
}

/* What a datagram's segments are is fixed; a kernel that grows one has to be told that (Linux 5.6). */
#define ROOM_FLAGS (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)

/* Makes room for `bytes` bytes behind the IP header, which has no options. */
static __always_inline int insert_behind_ip(context *ctx, bool ipv4, __u32 bytes)
{
	return bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_NET, ROOM_FLAGS);
}

/* Removes the `bytes` bytes behind the first 20 (IPv4) or 40 bytes of the IP header. */
static __always_inline int remove_behind_ip(context *ctx, bool ipv4, __u32 bytes)
{
	return bpf_skb_adjust_room(ctx, -(__s32)bytes, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* Makes room for `bytes` bytes behind the Ethernet header, for the headers of a tunnel by UDP that end in an Ethernet
 * header: the kernel cuts what is inside into segments. */
static __always_inline int insert_tunnel(context *ctx, bool ipv4, __u32 bytes)
{
	__u64 family = ipv4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

	return bpf_skb_adjust_room(ctx, bytes, BPF_ADJ_ROOM_MAC,
				   ROOM_FLAGS | family | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN));
}

/* Removes the `bytes` bytes behind the Ethernet header, or of a packet that has none. */
static __always_inline int remove_tunnel(context *ctx, __u32 bytes)
{
	return bpf_skb_adjust_room(ctx, -(__s32)bytes, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* Puts `bytes` zero bytes in front of a packet without Ethernet header. */
static __always_inline int prepend_room(context *ctx, __u32 bytes)
{
	return bpf_skb_change_head(ctx, bytes, 0);
}

/* Copies the whole packet if it has at most `max` bytes. Returns its length, or 0. */
static __always_inline __u32 copy_packet(context *ctx, void *to, __u32 max)
{
	__u32 length = ctx->len;

	if (length < ETH_HLEN || length > max)
		return 0;
	return bpf_skb_load_bytes(ctx, 0, to, length) ? 0 : length;
}

/* Makes the packet, from `offset` on, one that was copied. Returns 0, or negative with the packet in an unusable
 * state. */
static __always_inline int replace_packet(context *ctx, __u32 offset, const void *from, __u32 length, __u32 max)
{
	if (length < ETH_HLEN || length > max || bpf_skb_change_tail(ctx, offset + length, 0))
		return -1;
	return bpf_skb_store_bytes(ctx, offset, from, length, BPF_F_RECOMPUTE_CSUM);
}

/* Has a copy of the packet arrive at its device, after this packet. */
static __always_inline int queue_copy(context *ctx)
{
	return bpf_clone_redirect(ctx, ctx->ifindex, BPF_F_INGRESS);
}

/* These return the action that sends the packet on. */
static __always_inline int redirect_out(__u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* The packet leaves by the device that it came in by. */
static __always_inline int send_back(context *ctx)
{
	return redirect_out(ctx->ifindex);
}

/* The packet arrives at another device of this network namespace. */
static __always_inline int redirect_in(__u32 ifindex)
{
	return bpf_redirect(ifindex, BPF_F_INGRESS);
}

/* The packet arrives at the other end of a veth pair, in a pod's network namespace. */
static __always_inline int redirect_into_pod(__u32 ifindex)
{
	return bpf_redirect_peer(ifindex, 0);
}

/* The kernel resolves the MAC address of the next hop, an IPv4 or IPv6 address as bpf_fib_lookup returned it. */
static __always_inline int redirect_to_neighbour(__u32 ifindex, __u32 family, const void *address)
{
	struct bpf_redir_neigh next_hop = { .nh_family = family };

	__builtin_memcpy(next_hop.ipv6_nh, address, sizeof(next_hop.ipv6_nh));
	return bpf_redirect_neigh(ifindex, &next_hop, sizeof(next_hop), 0);
}
