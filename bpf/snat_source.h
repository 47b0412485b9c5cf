/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Selects the source address of a masqueraded connection: to a backend on another node, or of a pod to the outside. */
#pragma once

#include "config.h"
#include "route.h"

/* Newer than some headers; the kernel knows them where config.route_source says so. */
#define FIB_SKIP_NEIGHBOUR (1U << 2)
#define FIB_SOURCE (1U << 4)
#define FIB_NO_SOURCE 10 /* there is a route, and no address that fits */

/* May a route have another source than the node's primary address? The kernel's choice of one goes over all devices in
 * IPv6: with a hundred pods it costs five times as much as all the rest of a new connection. */
static __always_inline bool has_choice(bool ipv4)
{
	__u32 zero = 0;
	struct node_addresses *node = bpf_map_lookup_elem(&node_addresses, &zero);

	return config.route_source && !(node && (node->only & (ipv4 ? FAMILY_IPV4 : FAMILY_IPV6)));
}

/* Looks up the route to a destination. Returns the device that it leaves by, or 0. `nat->source` becomes what the node
 * itself would send from: the preferred source of the route, or an address of that device; :: where the kernel does not
 * say. */
static __always_inline __u32 look_up_source(context *ctx, struct nat_setup *nat, const struct tuple *to)
{
	struct bpf_fib_lookup *route = &nat->route;
	bool ipv4 = is_ipv4(&to->destination), asks = has_choice(ipv4);
	long result;

	__builtin_memset(route, 0, sizeof(*route));
	nat->source = (struct address){};
	fill_fib(route, ctx, to, ipv4);
	result = bpf_fib_lookup(ctx, route, sizeof(*route), asks ? FIB_SOURCE | FIB_SKIP_NEIGHBOUR : 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_FRAG_NEEDED &&
	    result != BPF_FIB_LKUP_RET_NO_NEIGH && result != FIB_NO_SOURCE)
		return 0;
	if (asks && result != FIB_NO_SOURCE) {
		nat->source = ipv4_address(route->ipv4_src);
		if (!ipv4)
			__builtin_memcpy(&nat->source, route->ipv6_src, sizeof(nat->source));
	}
	/* Where no device has a global address, it is a link-local or loopback one, to which others have no route. */
	if (is_on_link_only(&nat->source) || is_loopback_or_unspecified(&nat->source))
		nat->source = (struct address){};
	return route->ifindex;
}

/* Replaces the node's primary address by the one that the node itself would use towards the backend. */
static __always_inline void use_source_of_route(context *ctx, struct nat_setup *nat)
{
	struct tuple to = { .destination = nat->reply_key.source, .protocol = nat->reply_key.protocol };

	if (has_choice(is_ipv4(&to.destination)) && look_up_source(ctx, nat, &to) && !is_unspecified(&nat->source))
		nat->reply_key.destination = nat->source;
}
