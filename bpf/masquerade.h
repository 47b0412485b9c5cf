/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Pods reach the outside with an address of the node: whatever is neither in the cluster nor where settings say that
 * pods are known by their own addresses, and is reached by an uplink, whose programs see the answers. Protocols without
 * ports keep the pod's address, but for ICMP's echo. */
#pragma once

#include "nat.h"
#include "policy.h"
#include "sender.h"

static __always_inline bool masquerades(const struct packet *packet)
{
	return config.masquerade & (is_ipv4_packet(packet) ? FAMILY_IPV4 : FAMILY_IPV6);
}

/* Is the address in one of the cluster's networks? Others of `inside` are asked for by a lookup, which costs more than
 * all else that is done about most datagrams between pods. */
static __always_inline bool in_cluster(const struct address *address)
{
	return in_networks(address, config.inside_networks, config.inside_network_count);
}

/* Is the address in `nat->outside` outside? Then `nat->source` becomes the source for it; `port` is that of the pod.
 * The function is global, so that the verifier goes through it once; it works in the map, because its stack and its
 * callers' are one. */
__noinline int find_outside_source(context *ctx, __u8 protocol, __be16 port)
{
	struct scratch *scratch = this_scratch();
	struct tuple to = { .protocol = protocol };
	struct node_addresses *uplink;
	const struct address *own;
	struct nat_setup *nat;
	__u32 device;

	if (!scratch)
		return false;
	nat = &scratch->nat;
	if (bpf_map_lookup_elem(&inside, &nat->outside))
		return false;
	to.destination = nat->outside.address;
	device = look_up_source(ctx, nat, &to);
	uplink = bpf_map_lookup_elem(&uplinks, &device);
	if (!uplink)
		return false;
	own = is_ipv4(&nat->outside.address) ? &uplink->ipv4 : &uplink->ipv6;
	if (is_unspecified(&nat->source))
		nat->source = *own;
	nat->may_keep_port = !lookup_node_port(&nat->outside.address, port, protocol);
	return !is_unspecified(own); /* without one, the family is not masqueraded */
}

/* Does a connection of the pod to this address get the node's? Only a pod's own address is replaced: what routers in
 * pods forward for others keeps its source. */
static __always_inline bool goes_outside(context *ctx, enum hook hook, const struct packet *packet,
					 const struct address *destination)
{
	struct scratch *scratch = this_scratch();

	if (!sent_by_pod(hook) || !masquerades(packet) || packet->echo_reply || !scratch ||
	    is_multicast_or_reserved(destination) || (!is_ipv4(destination) && is_link_local(destination)) ||
	    in_cluster(destination))
		return false;
	scratch->nat.outside = (struct prefix){ 8 * sizeof(*destination), *destination };
	return find_outside_source(ctx, packet->tuple.protocol, packet->tuple.source_port) &&
	       is_own_address(ctx, packet);
}

/* Notes the connection whose replies `nat->reply_key` has, unless its client is in the cluster. */
__noinline int note_direct_client(__u64 now)
{
	struct scratch *scratch = this_scratch();
	struct nat_setup *nat;

	if (!scratch)
		return 0;
	nat = &scratch->nat;
	nat->outside = (struct prefix){ 8 * sizeof(struct address), nat->reply_key.destination };
	if (find_flow(&nat->reply_key, now, false) || bpf_map_lookup_elem(&inside, &nat->outside))
		return 0;
	nat->reply = (struct flow){
		.source = nat->reply_key.source,
		.destination = nat->reply_key.destination,
		.source_port = nat->reply_key.source_port,
		.destination_port = nat->reply_key.destination_port,
		.direction = FLOW_REPLY,
		.expires_ns = now + config.any_timeout_ns,
	};
	note_transient(&nat->reply_key, &nat->reply);
	bpf_map_update_elem(&transient_flows, &nat->reply_key, &nat->reply, BPF_ANY);
	return 0;
}

/* Notes clients outside that send to a pod by its own address, `local`: answers keep it. TCP's answers need no note,
 * since they do not look like a beginning; nor do those of an echo. */
static __always_inline void note_direct(enum hook hook, const struct packet *packet, const struct local_address *local,
					__u64 now)
{
	struct scratch *scratch = this_scratch();

	if (!from_network(hook) || !masquerades(packet) || !local || local->kind != LOCAL_POD ||
	    is_icmp_protocol(packet->tuple.protocol) || packet->tuple.protocol == IPPROTO_TCP ||
	    in_cluster(&packet->tuple.source) || !scratch)
		return;
	scratch->nat.reply_key = reversed(&packet->tuple);
	note_direct_client(now);
}
