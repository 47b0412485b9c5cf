/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whose packet is it? A pod sends from its own addresses, and before it has one, what it needs to get one. It is no
 * router: what it forwards for others, and errors about others' packets, are dropped unless it may send them. What no
 * host can have sent goes to the stack as it came, as frames for other hosts and VLANs do: a redirect bypasses the
 * stack's own checks. It drops such packets, logs them, or has a device or a sysctl for them. */
#pragma once

#include "hook.h"
#include "icmp_translate.h"

#define DHCP_SERVER 67
#define DHCP_CLIENT 68
#define MLD_REPORT 131
#define MLD_DONE 132
#define ND_ROUTER_SOLICITATION 133
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define MLD2_REPORT 143

/* Is the source an address of the pod behind the device? `pod_devices` is an array, which costs nearly nothing: it has
 * one address of each family, of all pods but those whose slot another has. Their other addresses cost a lookup. */
static __always_inline bool is_own_address(context *ctx, const struct packet *packet)
{
	__u32 device = packet_device(ctx), slot = device % POD_DEVICES;
	struct pod_device *pod = bpf_map_lookup_elem(&pod_devices, &slot);
	const struct address *source = &packet->tuple.source;
	struct local_address *own;

	if (pod && pod->ifindex == device &&
	    same_address(packet->ethertype == bpf_htons(ETH_P_IP) ? &pod->ipv4 : &pod->ipv6, source))
		return true;
	own = lookup_local_address(source);
	return own && own->ifindex == device;
}

/* Is the packet an ICMP error about a packet that was not sent to its source? An error is short: no host cuts it into
 * fragments, nor hides it behind more extension headers than are parsed. */
static __always_inline bool is_foreign_error(context *ctx, const struct packet *packet)
{
	__u32 quoted = packet->l4_offset + ICMP_HEADER_BYTES;
	struct address sent_to = {};

	if (packet->later_fragment)
		return false;
	if (packet->ethertype == bpf_htons(ETH_P_IPV6) && is_extension(packet->tuple.protocol))
		return packet->tuple.protocol != IPPROTO_ROUTING;
	if (!has_error_type(ctx, packet))
		return false;
	if (packet->ethertype == bpf_htons(ETH_P_IPV6)) {
		if (load_bytes(ctx, quoted + offsetof(struct ipv6hdr, daddr), &sent_to, sizeof(sent_to)))
			return true;
	} else {
		sent_to = ipv4_address(0);
		if (load_bytes(ctx, quoted + offsetof(struct iphdr, daddr), &sent_to.word[3], sizeof(__be32)))
			return true;
	}
	return packet->fragment || !same_address(&sent_to, &packet->tuple.source);
}

/* Does a host send this before it has an address, or from its link-local one, to those on its link: DHCP (RFC 2131),
 * Neighbour Discovery (RFC 4861), reports of multicast groups (RFC 3590)? Nothing of it is forwarded. */
static __always_inline bool is_for_link(context *ctx, const struct packet *packet)
{
	const struct tuple *tuple = &packet->tuple;
	__u8 type;

	if (!is_on_link_only(&tuple->destination))
		return false;
	if (packet->ethertype == bpf_htons(ETH_P_IP))
		return !tuple->source.word[3] && tuple->protocol == IPPROTO_UDP &&
		       tuple->source_port == bpf_htons(DHCP_CLIENT) &&
		       tuple->destination_port == bpf_htons(DHCP_SERVER);
	if (!is_unspecified(&tuple->source) && !is_link_local(&tuple->source))
		return false;
	if (!is_icmp(packet) || load_bytes(ctx, packet->l4_offset, &type, sizeof(type)))
		return false;
	return type == ND_NEIGHBOUR_SOLICITATION || type == ND_NEIGHBOUR_ADVERTISEMENT || type == MLD2_REPORT ||
	       (type >= MLD_REPORT && type <= ND_ROUTER_SOLICITATION);
}

/* May the pod behind the device send whatever it likes? */
static __always_inline bool may_send_anything(context *ctx)
{
	__u32 device = packet_device(ctx);

	return bpf_map_lookup_elem(&foreign_sources, &device);
}

/* Returns VERDICT_PASS unless a pod sends in another's name. */
static __always_inline enum verdict judge_source(context *ctx, enum hook hook, const struct packet *packet)
{
	if (!config.verify_sources || !sent_by_pod(hook))
		return VERDICT_PASS;
	if (is_own_address(ctx, packet) && (packet->has_ports || !is_foreign_error(ctx, packet)))
		return VERDICT_PASS;
	return is_for_link(ctx, packet) || may_send_anything(ctx) ? VERDICT_PASS : VERDICT_DROP_FOREIGN_SOURCE;
}

/* The same of a frame that is not IP, or is a VLAN's: a pod's address resolution passes. Others might hide a packet. */
static __always_inline enum verdict judge_frame(context *ctx, enum hook hook, const struct packet *packet)
{
	if (!config.verify_sources || !sent_by_pod(hook) || packet->ethertype == bpf_htons(ETH_P_ARP) ||
	    may_send_anything(ctx))
		return packet->ethertype ? VERDICT_PASS : VERDICT_FOREIGN;
	return VERDICT_DROP_FOREIGN_SOURCE;
}

/* Does the packet come from an address that no other host has, or go to a loopback or unspecified one? (The kernel's
 * ip_route_input_slow and ip6_rcv_core.) A known flow was not opened by such a packet, so only others are asked. */
static __always_inline bool is_foreign(enum hook hook, const struct packet *packet)
{
	const struct address *source = &packet->tuple.source, *destination = &packet->tuple.destination;
	const struct local_address *owner;

	if (is_loopback_or_unspecified(destination))
		return true;
	if (is_martian(source)) /* to a group, hosts send before they have an address */
		return !is_multicast_or_reserved(destination);
	if (!from_network(hook))
		return false;
	owner = lookup_local_address(source);
	return owner && owner->kind != LOCAL_POD;
}
