/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The option that names the frontend of a connection in DSR mode, as Cilium has it: an option of IPv4, or a destination
 * option of IPv6 in an extension header of its own. It is put on, recognised, read and taken off here. */
#pragma once

#include "icmp_build.h"
#include "maps.h"
#include "rewrite.h"

#define DSR_IPV4_TYPE 0x9a /* copied into fragments, class control, number 26 */
#define DSR_IPV6_TYPE 0x1b /* to be skipped by those who do not know it */

struct dsr_ipv4_option {
	__u8 type;
	__u8 length;
	__be16 port;
	__be32 address;
};

struct dsr_ipv6_option {
	__u8 next;
	__u8 words; /* of eight bytes, less one */
	__u8 type;
	__u8 length; /* of the option's value */
	struct address address;
	__be16 port;
	__be16 pad;
};

static __always_inline __u16 option_bytes(bool ipv4)
{
	return ipv4 ? sizeof(struct dsr_ipv4_option) : sizeof(struct dsr_ipv6_option);
}

/* How many bytes of options and extension headers does the packet have? */
static __always_inline __u32 extra_bytes(const struct packet *packet)
{
	return packet->l4_offset - L2_BYTES - ip_header_bytes(is_ipv4_packet(packet));
}

/* Does the packet carry the option, and nothing beside it? */
static __always_inline bool has_dsr_option(context *ctx, const struct packet *packet)
{
	bool ipv4 = is_ipv4_packet(packet);
	__u32 offset = L2_BYTES + ip_header_bytes(ipv4);
	__u8 bytes[4], next;

	if (extra_bytes(packet) != option_bytes(ipv4) || load_bytes(ctx, offset, bytes, sizeof(bytes)))
		return false;
	if (ipv4)
		return bytes[0] == DSR_IPV4_TYPE && bytes[1] == sizeof(struct dsr_ipv4_option);
	return !load_bytes(ctx, L2_BYTES + offsetof(struct ipv6hdr, nexthdr), &next, sizeof(next)) &&
	       next == IPPROTO_DSTOPTS && bytes[2] == DSR_IPV6_TYPE && bytes[3] == sizeof(struct dsr_ipv6_option) - 4;
}

/* Writes the IPv4 header's first word and checksum for `bytes` more bytes, of which `sum` is the sum. */
static __always_inline int resize_ipv4(context *ctx, __u32 offset, __s32 bytes, __u32 sum)
{
	struct iphdr ip;
	__u32 before, after;

	if (load_bytes(ctx, offset, &ip, sizeof(ip)))
		return -1;
	__builtin_memcpy(&before, &ip, sizeof(before));
	ip.ihl += bytes / 4;
	if (ip.tot_len) /* BIG TCP has none */
		ip.tot_len = bpf_htons(bpf_ntohs(ip.tot_len) + bytes);
	__builtin_memcpy(&after, &ip, sizeof(after));
	if (replace_l3_checksum(ctx, offset + offsetof(struct iphdr, check), before, after, sizeof(after)) ||
	    replace_l3_checksum(ctx, offset + offsetof(struct iphdr, check), 0, sum, 0))
		return -1;
	return store_bytes(ctx, offset, &after, sizeof(after));
}

static __always_inline struct dsr_ipv4_option ipv4_option(const struct dsr_setup *dsr)
{
	return (struct dsr_ipv4_option){
		.type = DSR_IPV4_TYPE,
		.length = sizeof(struct dsr_ipv4_option),
		.port = dsr->port,
		.address = dsr->frontend.word[3],
	};
}

/* Writes the option into the room that was made for it behind the IP header. Returns as rewrite_packet does. */
static __always_inline int write_ipv4_option(context *ctx, const struct dsr_setup *dsr)
{
	struct dsr_ipv4_option option = ipv4_option(dsr);

	if (store_bytes(ctx, ETH_HLEN + sizeof(struct iphdr), &option, sizeof(option)))
		return -1;
	return resize_ipv4(ctx, ETH_HLEN, sizeof(option), bpf_csum_diff(NULL, 0, (__be32 *)&option, sizeof(option), 0));
}

/* Writes the length and the next header of an IPv6 header to which `bytes` bytes were added. */
static __always_inline int resize_ipv6(context *ctx, __u32 offset, __s32 bytes, __u8 next)
{
	__u32 length_at = offset + offsetof(struct ipv6hdr, payload_len);
	__be16 length;

	if (load_bytes(ctx, length_at, &length, sizeof(length)))
		return -1;
	if (length) /* BIG TCP has none */
		length = bpf_htons(bpf_ntohs(length) + bytes);
	return store_summed(ctx, length_at, &length, sizeof(length)) ||
	       store_summed(ctx, offset + offsetof(struct ipv6hdr, nexthdr), &next, sizeof(next));
}

static __always_inline int write_ipv6_option(context *ctx, const struct dsr_setup *dsr)
{
	struct dsr_ipv6_option option = {
		.words = sizeof(option) / 8 - 1,
		.type = DSR_IPV6_TYPE,
		.length = sizeof(option) - 4,
		.address = dsr->frontend,
		.port = dsr->port,
	};

	if (load_bytes(ctx, ETH_HLEN + offsetof(struct ipv6hdr, nexthdr), &option.next, sizeof(option.next)) ||
	    store_summed(ctx, ETH_HLEN + sizeof(struct ipv6hdr), &option, sizeof(option)))
		return -1;
	return resize_ipv6(ctx, ETH_HLEN, sizeof(option), IPPROTO_DSTOPTS);
}

static __always_inline int write_option(context *ctx, bool ipv4, const struct dsr_setup *dsr)
{
	return ipv4 ? write_ipv4_option(ctx, dsr) : write_ipv6_option(ctx, dsr);
}

/* Puts the option on. A kernel may refuse to make room in what will be cut into segments: such a packet goes without,
 * as it does not begin a connection. Returns negative with the packet in an unusable state. */
static __always_inline int insert_option(context *ctx, bool ipv4, const struct dsr_setup *dsr)
{
	return insert_behind_ip(ctx, ipv4, option_bytes(ipv4)) ? 0 : write_option(ctx, ipv4, dsr);
}

/* Takes the option off. Returns negative with the packet in an unusable state. */
static __always_inline int remove_option(context *ctx, struct packet *packet, const struct dsr_setup *dsr)
{
	struct dsr_ipv4_option option = ipv4_option(dsr);
	bool ipv4 = is_ipv4_packet(packet);
	__u32 bytes = option_bytes(ipv4);
	__u8 next;

	packet->l4_offset -= bytes;
	if (ipv4) {
		if (remove_behind_ip(ctx, true, bytes))
			return -1;
		/* It went from the device's sum; what the header gains instead is in the header's own checksum. */
		add_to_device_sum(ctx, bpf_csum_diff(NULL, 0, (__be32 *)&option, sizeof(option), 0));
		return resize_ipv4(ctx, L2_BYTES, -(__s32)bytes,
				   bpf_csum_diff((__be32 *)&option, sizeof(option), NULL, 0, 0));
	}
	return load_bytes(ctx, L2_BYTES + sizeof(struct ipv6hdr), &next, sizeof(next)) ||
	       remove_behind_ip(ctx, false, bytes) || resize_ipv6(ctx, L2_BYTES, -(__s32)bytes, next);
}

/* Reads the frontend that the option names. */
static __always_inline int read_frontend(context *ctx, const struct packet *packet, struct dsr_setup *dsr)
{
	__u32 at = L2_BYTES + sizeof(struct iphdr) + offsetof(struct dsr_ipv4_option, port);

	if (!is_ipv4_packet(packet)) {
		at = L2_BYTES + sizeof(struct ipv6hdr) + offsetof(struct dsr_ipv6_option, address);
		return load_bytes(ctx, at, &dsr->frontend, sizeof(dsr->frontend)) ||
		       load_bytes(ctx, at + sizeof(dsr->frontend), &dsr->port, sizeof(dsr->port));
	}
	dsr->frontend = ipv4_address(0);
	return load_bytes(ctx, at, &dsr->port, sizeof(dsr->port)) ||
	       load_bytes(ctx, at + sizeof(dsr->port), &dsr->frontend.word[3], sizeof(__be32));
}

/* Returns what is known of the other node that has an address, or NULL. */
static __always_inline struct dsr_peer *lookup_peer(const struct address *address)
{
	struct prefix key = { 8 * sizeof(*address), *address };

	return bpf_map_lookup_elem(&dsr_peers, &key);
}
