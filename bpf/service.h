/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which service an address and port belong to, and which backend a new connection gets. */
#pragma once

#include "address.h"
#include "clock.h"
#include "config.h"
#include "maps.h"

#define NS_PER_S 1000000000ULL

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

/* Does the service of a NodePort or a pod's port answer at this address of the node? */
static __always_inline bool node_port_answers(const struct service *service, const struct local_address *local)
{
	return local->kind == LOCAL_NODE_PORTS || (service->flags & SERVICE_HOST_PORT);
}

/* Do NodePorts answer the node itself at this address, a loopback one? */
static __always_inline bool answers_on_loopback(const struct address *address)
{
	return is_loopback(address) && config.localhost_node_ports & family_bit(address);
}

/* Is the frontend for clients in the cluster only? */
static __always_inline bool is_internal(const struct service *service)
{
	return (service->flags & (SERVICE_CLUSTER_IP | SERVICE_EXTERNAL_IP | SERVICE_LOAD_BALANCER)) ==
	       SERVICE_CLUSTER_IP;
}

static __always_inline struct local_address *lookup_local_address(const struct address *address)
{
	return bpf_map_lookup_elem(&local_addresses, address);
}

/* The service of a NodePort, where it answers at the address of the node that `local` is. */
static __always_inline struct service *lookup_answering_port(const struct local_address *local,
							     const struct address *address, __be16 port, __u8 protocol)
{
	struct service *service = lookup_node_port(address, port, protocol);

	return service && node_port_answers(service, local) ? service : NULL;
}

/* The service that is dialled on this node: NodePorts of this node only, another's may be subject to its traffic policy. */
static __always_inline struct service *lookup_dialled(const struct address *address, __be16 port, __u8 protocol)
{
	struct service *service = lookup_frontend(address, port, protocol);
	struct local_address *local;

	if (service)
		return service;
	if (answers_on_loopback(address))
		return lookup_node_port(address, port, protocol);
	local = lookup_local_address(address);
	if (!local || local->kind == LOCAL_POD)
		return NULL;
	return lookup_answering_port(local, address, port, protocol);
}

static __always_inline struct backend *lookup_backend(__u32 id)
{
	return bpf_map_lookup_elem(&backends, &id);
}

/* The backend of a list that `random` (32 uniform bits) chooses. Returns NULL where there is none. */
static __always_inline struct backend *pick_backend(const struct service *service, enum backend_list list, __u32 random,
						    __u32 *id)
{
	__u32 count = list == LIST_LOCAL ? service->local_backends : service->backends;
	struct backend *backend;
	__u32 slot, *found;

	/* random * n / 2^32 is uniform in 0..n-1, and cheaper than a division. */
	slot = service->first_slot + (__u32)(((__u64)random * count) >> 32);
	if (list == LIST_LOCAL)
		slot += service->backends;
	if (!count)
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

/* The client's backend of before, unless that is long ago or the backend is not in the list any more. */
static __always_inline struct backend *recall_backend(const struct service *service, enum backend_list list,
						      const struct affinity_client *client, __u64 now, __u32 *id)
{
	struct affinity *affinity = bpf_map_lookup_elem(&affinities, client);
	struct backend *backend;

	if (!affinity || affinity->used_ns + service->affinity_s * NS_PER_S < now)
		return NULL;
	*id = affinity->backend;
	backend = lookup_backend(*id);
	if (!backend || backend->state == BACKEND_NONE || backend->service != service->id || !(backend->lists & list))
		return NULL;
	affinity->used_ns = now;
	return backend;
}

/* The backend for a new connection of `client` to the service, from one of its lists. Returns NULL where the list is
 * empty; `id` is set otherwise. */
static __always_inline struct backend *select_backend(const struct service *service, enum backend_list list,
						      const struct address *client, __u32 random, __u32 *id)
{
	struct affinity_client key = { .client = *client, .service = service->id };
	struct affinity affinity = {};
	struct backend *backend;

	if (!service->affinity_s)
		return pick_backend(service, list, random, id);
	affinity.used_ns = now_ns();
	backend = recall_backend(service, list, &key, affinity.used_ns, id);
	if (backend)
		return backend;
	backend = pick_backend(service, list, random, id);
	affinity.backend = *id;
	if (backend)
		bpf_map_update_elem(&affinities, &key, &affinity, BPF_ANY);
	return backend;
}
