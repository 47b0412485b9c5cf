/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which service an address and port belong to, and which backend a new connection gets. */
#pragma once

#include "address.h"
#include "maps.h"

static __always_inline struct service *lookup_frontend(const struct address *address, __be16 port, __u8 protocol)
{
	struct frontend key = { .address = *address, .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&services, &key);
}

/* The service of a NodePort, for a destination that is known to be an address of this node. */
static __always_inline struct service *lookup_node_port(const struct address *address, __be16 port, __u8 protocol)
{
	struct address any = unspecified_address(address);

	return lookup_frontend(&any, port, protocol);
}

static __always_inline struct endpoint *lookup_endpoint(const struct address *address)
{
	return bpf_map_lookup_elem(&endpoints, address);
}

static __always_inline struct backend *lookup_backend(__u32 id)
{
	return bpf_map_lookup_elem(&backends, &id);
}

/* One of the service's active backends, chosen by `random` (32 uniform bits). Returns NULL where there is none;
 * `id` is set otherwise. */
static __always_inline struct backend *select_backend(const struct service *service, __u32 random, __u32 *id)
{
	struct backend *backend;
	__u32 slot, *found;

	/* random * n / 2^32 is uniform in 0..n-1, and cheaper than a division. */
	slot = service->first_slot + (__u32)(((__u64)random * service->backends) >> 32);
	if (!service->backends)
		return NULL;
	found = bpf_map_lookup_elem(&slots, &slot);
	if (!found)
		return NULL;
	*id = *found;
	backend = lookup_backend(*id);
	if (!backend || backend->state == BACKEND_NONE)
		return NULL;
	return backend;
}
