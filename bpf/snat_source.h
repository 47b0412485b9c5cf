/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The address of the node that a connection to a backend elsewhere is given in place of its client's. */
#pragma once

#include "config.h"
#include "maps.h"
#include "route.h"

/* Newer than some headers, and known to the kernel where config.route_source says so. */
#define FIB_SKIP_NEIGHBOUR (1U << 2)
#define FIB_SOURCE (1U << 4)

/* Replaces the node's primary address by the one that the node itself would use towards the backend: its route's
 * preferred one, or one of the device that the route leaves by. The primary one stays where the kernel does not say. */
static __always_inline void prefer_source_of_route(context *ctx, struct opening *opening)
{
	struct bpf_fib_lookup *route = &opening->route;
	struct tuple *reply = &opening->key;
	bool ipv4 = is_ipv4(&reply->source);
	struct address source;
	long result;

	if (!config.route_source)
		return;
	__builtin_memset(route, 0, sizeof(*route));
	route->ifindex = ctx->ifindex;
	route->l4_protocol = reply->protocol;
	if (ipv4) {
		route->family = AF_INET;
		route->ipv4_dst = reply->source.word[3];
	} else {
		route->family = AF_INET6;
		__builtin_memcpy(route->ipv6_dst, &reply->source, sizeof(route->ipv6_dst));
	}
	result = bpf_fib_lookup(ctx, route, sizeof(*route), FIB_SOURCE | FIB_SKIP_NEIGHBOUR);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return;
	if (ipv4)
		source = ipv4_address(route->ipv4_src);
	else
		__builtin_memcpy(&source, route->ipv6_src, sizeof(source));
	/* Where no device has a global address it is one of the link or of loopback: no way back for the backend. */
	if (!is_on_link_only(&source) && !is_loopback(&source))
		reply->destination = source;
}
