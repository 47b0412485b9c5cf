/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Looks up the service of an address and port, what an address is on this node, and a backend by its identifier. */
#pragma once

#include "address.h"
#include "clock.h"
#include "config.h"
#include "maps.h"

static __always_inline struct service *lookup_frontend(const struct address *address, __be16 port, __u8 protocol)
{
	struct transport_address key = { .address = *address, .port = port, .protocol = protocol };

	return bpf_map_lookup_elem(&services, &key);
}

/* Returns the service of a NodePort, or NULL. The caller knows that the destination is an address of this node. */
static __always_inline struct service *lookup_node_port(const struct address *address, __be16 port, __u8 protocol)
{
	struct address any = unspecified_address(address);

	return lookup_frontend(&any, port, protocol);
}

/* Is this a loopback address on which NodePorts answer the node itself? */
static __always_inline bool answers_on_loopback(const struct address *address)
{
	return is_loopback_or_unspecified(address) && config.localhost_node_ports & family_bit(address);
}

/* Is the frontend a ClusterIP, for clients in the cluster only? */
static __always_inline bool is_internal(const struct service *service)
{
	return (service->flags & (SERVICE_CLUSTER_IP | SERVICE_EXTERNAL_IP | SERVICE_LOAD_BALANCER)) ==
	       SERVICE_CLUSTER_IP;
}

static __always_inline struct local_address *lookup_local_address(const struct address *address)
{
	return bpf_map_lookup_elem(&local_addresses, address);
}

/* Is it an address of the node itself? */
static __always_inline bool is_of_node(const struct address *address)
{
	struct local_address *local = lookup_local_address(address);

	return local && local->kind != LOCAL_POD;
}

/* Returns the service of a NodePort or a host port that answers at the node's address `local`, or NULL. */
static __always_inline struct service *lookup_answering_port(const struct local_address *local,
							     const struct address *address, __be16 port, __u8 protocol)
{
	struct service *service = lookup_node_port(address, port, protocol);

	if (service && local->kind != LOCAL_NODE_PORTS && !(service->flags & SERVICE_HOST_PORT))
		return NULL;
	return service;
}

/* Returns the service to which a process on this node connects, or NULL. NodePorts of other nodes are theirs to
 * serve: their traffic policy may apply. */
static __always_inline struct service *lookup_service_on_node(const struct address *address, __be16 port, __u8 protocol)
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

/* Returns the backend with an identifier, or NULL where there is none. */
static __always_inline struct backend *lookup_backend(__u32 id)
{
	struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->state != BACKEND_NONE ? backend : NULL;
}
