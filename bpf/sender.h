/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Whose packet is it? A pod sends from its own addresses, and before it has one, what it needs to get one. It is no
 * router: what it forwards for others, and errors about others' packets, are dropped unless it may send them. What no
 * host can have sent goes to the stack as it came, as frames for other hosts and VLANs do: a redirect bypasses the
 * stack's own checks. It drops such packets, logs them, or has a device or a sysctl for them. */
#pragma once

#include "hook.h"
#include "icmp_translate.h"

#define ARP_SENDER_OFFSET (L2_BYTES + 14) /* the sender's IPv4 address (RFC 826) */
#define DHCP_SERVER 67
#define DHCP_CLIENT 68
#define DHCP6_CLIENT 546
#define DHCP6_SERVER 547
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_NEIGHBOUR_ADVERTISEMENT 136

/* Returns what is known of the pod behind the device, or NULL. `pod_devices` is an array, which costs nearly nothing:
 * it has one address of each family, of all pods but those whose slot another has. */
static __always_inline struct pod_device *lookup_pod(__u32 device)
{
	__u32 slot = device % POD_DEVICES;
	struct pod_device *pod = bpf_map_lookup_elem(&pod_devices, &slot);

	return pod && pod->ifindex == device ? pod : NULL;
}

/* Is the source an address of the pod behind the device? Those that `pod_devices` lacks cost a lookup. */
static __always_inline bool is_own_address(context *ctx, const struct packet *packet)
{
	const struct address *source = &packet->tuple.source;
	__u32 device = packet_device(ctx);
	struct pod_device *pod = lookup_pod(device);
	struct local_address *own;

	if (pod && same_address(is_ipv4_packet(packet) ? &pod->ipv4 : &pod->ipv6, source))
		return true;
	own = lookup_local_address(source);
	return own && own->ifindex == device;
}

/* Is the packet an ICMP error about a packet that was not sent to its source? An error is short: no host cuts it into
 * fragments, nor hides it behind more extension headers than are parsed. */
static __always_inline bool is_foreign_error(context *ctx, const struct packet *packet)
{
	bool ipv4 = is_ipv4_packet(packet);
	__u32 quoted = packet->l4_offset + ICMP_HEADER_BYTES;
	struct address sent_to = ipv4_address(0);

	if (packet->later_fragment)
		return false;
	if (!ipv4 && is_extension(packet->tuple.protocol))
		return packet->tuple.protocol != IPPROTO_ROUTING;
	if (!has_error_type(ctx, packet))
		return false;
	if (ipv4 ? load_bytes(ctx, quoted + offsetof(struct iphdr, daddr), &sent_to.word[3], sizeof(__be32))
		 : load_bytes(ctx, quoted + offsetof(struct ipv6hdr, daddr), &sent_to, sizeof(sent_to)))
		return true;
	return packet->fragment || !same_address(&sent_to, &packet->tuple.source);
}

static __always_inline bool is_dhcp(const struct tuple *tuple, __u16 client, __u16 server)
{
	return tuple->protocol == IPPROTO_UDP && tuple->source_port == bpf_htons(client) &&
	       tuple->destination_port == bpf_htons(server);
}

/* Judges a packet that does not carry an address of the pod. A host sends some before it has an address, or from its
 * link-local one, to those on its link: DHCP (RFC 2131, RFC 8415), Neighbour Discovery (RFC 4861), reports of multicast
 * groups (RFC 3590). The node's stack takes them. Another link-local address does not count: the node remembers who
 * asks it, in one table that a pod must not fill. */
static __always_inline enum verdict judge_other_source(context *ctx, const struct packet *packet)
{
	struct pod_device *pod = lookup_pod(packet_device(ctx));
	const struct tuple *tuple = &packet->tuple;
	bool link_local = pod && same_address(&pod->link_local, &tuple->source), passes = false;

	if (is_ipv4_packet(packet)) {
		passes = !tuple->source.word[3] && is_dhcp(tuple, DHCP_CLIENT, DHCP_SERVER);
	} else if (link_local && is_dhcp(tuple, DHCP6_CLIENT, DHCP6_SERVER)) {
		passes = true;
	} else if (link_local || is_unspecified(&tuple->source)) {
		int type = packet->fragment ? -1 : icmp_type(ctx, packet);

		passes = type == ICMPV6_MLD2_REPORT ||
			 (type >= ICMPV6_MGM_REPORT && type <= ND_NEIGHBOUR_ADVERTISEMENT &&
			  type != ND_ROUTER_ADVERTISEMENT);
	}
	return passes && is_on_link_only(&tuple->destination) ? VERDICT_PASS : VERDICT_DROP_FOREIGN_SOURCE;
}

/* May the pod behind the device send whatever it likes? */
static __always_inline bool may_send_anything(context *ctx)
{
	__u32 device = packet_device(ctx);

	return bpf_map_lookup_elem(&foreign_sources, &device);
}

/* Does a pod send what does not carry its own address, and may it not? */
static __always_inline bool has_other_source(context *ctx, enum hook hook, const struct packet *packet)
{
	if (!config.verify_sources || !sent_by_pod(hook))
		return false;
	if (is_own_address(ctx, packet) && (packet->has_ports || !is_foreign_error(ctx, packet)))
		return false;
	return !may_send_anything(ctx);
}

/* Does the pod ask for an address, or tell of its own? It may also ask without one whether somebody has an address. */
static __always_inline bool is_own_arp(context *ctx, struct packet *packet)
{
	__be32 sender;

	if (packet->ethertype != bpf_htons(ETH_P_ARP) || load_bytes(ctx, ARP_SENDER_OFFSET, &sender, sizeof(sender)))
		return false;
	packet->tuple.source = ipv4_address(sender);
	return !sender || is_own_address(ctx, packet);
}

/* Judges a frame that is not IP, or is a VLAN's: a pod's address resolution passes. Others might hide a packet. */
static __always_inline enum verdict judge_frame(context *ctx, enum hook hook, struct packet *packet)
{
	if (!config.verify_sources || !sent_by_pod(hook) || is_own_arp(ctx, packet) || may_send_anything(ctx))
		return packet->ethertype ? VERDICT_PASS : VERDICT_FOREIGN;
	return VERDICT_DROP_FOREIGN_SOURCE;
}

/* Does the packet come from an address that no other host has, or go to a loopback or unspecified one? (The kernel's
 * ip_route_input_slow and ip6_rcv_core.) A known flow was not opened by such a packet, so only others are asked. The
 * node's own addresses cost a lookup, which segments of open connections do not pay. */
static __always_inline bool is_foreign(enum hook hook, const struct packet *packet)
{
	const struct address *source = &packet->tuple.source, *destination = &packet->tuple.destination;
	const struct local_address *owner;

	if (is_loopback_or_unspecified(destination))
		return true;
	if (is_martian(source)) /* to a group, hosts send before they have an address */
		return !is_multicast_or_reserved(destination);
	if (!from_network(hook) || !may_be_new(packet))
		return false;
	owner = lookup_local_address(source);
	return owner && owner->kind != LOCAL_POD;
}
