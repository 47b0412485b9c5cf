/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Selects the backend of a new connection: the client's last one where the service has session affinity, else by a
 * number that is uniform over all connections. A Maglev table makes of equal numbers equal backends on every node. */
#pragma once

#include "service.h"

/* Returns the position in a list of `count` backends that its Maglev table has for `number`. */
static __noinline __u32 look_up_position(const struct service *service, enum backend_list list, __u32 number,
					 __u32 count)
{
	__u32 cell = (__u32)(((__u64)number * service->cells) >> 32);
	struct maglev_part part = { .table = service->table, .number = cell / MAGLEV_CELLS };
	struct maglev_cells *cells;
	__u32 position = count;

	if (list == LIST_LOCAL)
		part.number += (service->cells + MAGLEV_CELLS - 1) / MAGLEV_CELLS;
	cells = bpf_map_lookup_elem(&maglev, &part);
	if (cells)
		position = cells->positions[cell % MAGLEV_CELLS];
	/* The table is gone, as the service that leads to it has just changed. */
	return position < count ? position : (__u32)(((__u64)number * count) >> 32);
}

/* Returns the backend that `number` (32 uniform bits) selects from a list, or NULL where the list is empty. */
static __always_inline struct backend *pick_backend(const struct service *service, enum backend_list list, __u32 number,
						    __u32 *id)
{
	__u32 count = list == LIST_LOCAL ? service->local_backends : service->backends;
	__u32 slot, *found;

	if (!count)
		return NULL;
	/* number * count / 2^32 is uniform in 0 .. count - 1, and cheaper than a division. */
	if (service->cells)
		slot = look_up_position(service, list, number, count);
	else
		slot = (__u32)(((__u64)number * count) >> 32);
	slot += service->first_slot;
	if (list == LIST_LOCAL)
		slot += service->backends;
	found = bpf_map_lookup_elem(&slots, &slot);
	if (!found)
		return NULL;
	*id = *found;
	return lookup_backend(*id);
}

/* Returns the client's last backend, or NULL where its affinity has expired or the list no longer contains the
 * backend. */
static __always_inline struct backend *recall_backend(const struct service *service, enum backend_list list,
						      const struct affinity_client *client, __u64 now, __u32 *id)
{
	struct affinity *affinity = bpf_map_lookup_elem(&affinities, client);
	struct backend *backend;

	if (!affinity || affinity->used_ns + service->affinity_s * NS_PER_S < now)
		return NULL;
	*id = affinity->backend;
	backend = lookup_backend(*id);
	if (!backend || backend->service != service->id || !(backend->lists & list))
		return NULL;
	affinity->used_ns = now;
	return backend;
}

/* Returns the backend for a new connection of `client` to the service, from one of its lists; NULL where the list is
 * empty, otherwise `id` is set. A service with session affinity remembers it for the client. */
static __always_inline struct backend *select_backend(const struct service *service, enum backend_list list,
						      const struct address *client, __u32 number, __u32 *id)
{
	struct affinity_client key;
	struct affinity affinity = {};
	struct backend *backend;

	if (!service->affinity_s)
		return pick_backend(service, list, number, id);
	key = (struct affinity_client){ .client = *client, .service = service->id };
	affinity.used_ns = now_ns();
	backend = recall_backend(service, list, &key, affinity.used_ns, id);
	if (backend)
		return backend;
	backend = pick_backend(service, list, number, id);
	affinity.backend = *id;
	if (backend)
		bpf_map_update_elem(&affinities, &key, &affinity, BPF_ANY);
	return backend;
}
