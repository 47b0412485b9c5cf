/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Selects the source address of a masqueraded connection to a backend on another node. */
#pragma once

#include "config.h"
#include "route.h"

/* Newer than some headers; the kernel knows them where config.route_source says so. */
#define FIB_SKIP_NEIGHBOUR (1U << 2)
#define FIB_SOURCE (1U << 4)

/* Replaces the node's primary address by the one that the node itself would use towards the backend: the preferred
 * source of the route, or an address of the device that the route leaves by. The primary address stays where the
 * kernel does not say. */
static __always_inline void use_source_of_route(context *ctx, struct nat_setup *nat)
{
	struct bpf_fib_lookup *route = &nat->route;
	struct tuple *reply = &nat->reply_key;
	struct tuple to = { .destination = reply->source, .protocol = reply->protocol };
	bool ipv4 = is_ipv4(&to.destination);
	struct address source;
	long result;

	if (!config.route_source)
		return;
	__builtin_memset(route, 0, sizeof(*route));
	fill_fib(route, ctx, &to, ipv4);
	result = bpf_fib_lookup(ctx, route, sizeof(*route), FIB_SOURCE | FIB_SKIP_NEIGHBOUR);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return;
	if (ipv4)
		source = ipv4_address(route->ipv4_src);
	else
		__builtin_memcpy(&source, route->ipv6_src, sizeof(source));
	/* Where no device has a global address, it is a link-local or loopback one, to which the backend has no
	 * route back. */
	if (!is_on_link_only(&source) && !is_loopback_or_unspecified(&source))
		reply->destination = source;
}
