/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the network stack looks at before it routes a packet, and a redirect would bypass. Such packets go to the stack
 * as they came: it drops them, logs them, or has a device or a sysctl for them. */
#pragma once

#include "hook.h"
#include "packet.h"
#include "service.h"

/* Is the frame for another host, or for a VLAN? (__netif_receive_skb_core, ip_forward) A tag of VLAN 0 goes. A pod's
 * link has one host only at its end. */
static __always_inline bool is_foreign_frame(context *ctx, enum hook hook)
{
	if (from_network(hook) && !is_for_this_host(ctx))
		return true;
	if (!has_vlan_tag(ctx))
		return false;
	return !is_ingress(hook) || remove_priority_tag(ctx) || has_vlan_tag(ctx);
}

/* Does the packet come from an address that no host has, or that the node itself has? Does it go to none?
 * (ip_route_input_slow, ip6_rcv_core) A known flow was not opened by such a packet, so only others are asked. */
static __always_inline bool is_foreign(enum hook hook, const struct packet *packet)
{
	const struct local_address *owner;

	if (is_martian(&packet->tuple.source) || is_any(&packet->tuple.destination))
		return true;
	if (!from_network(hook))
		return false;
	owner = lookup_local_address(&packet->tuple.source);
	return owner && owner->kind != LOCAL_POD;
}
