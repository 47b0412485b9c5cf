/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* kube-proxy's truth tables: who may use a frontend, which of its two lists of backends the client gets, and whether
 * the client's address is hidden. Sockets and packets are judged here alike. */
#pragma once

#include "config.h"
#include "service.h"

/* Who opens a connection, and by which hook. */
struct client {
	struct address address;
	enum client_kind kind;
	enum hook hook;
};

struct decision {
	enum backend_list list;
	bool masquerade; /* if it can be: not where the backend is the node itself */
};

static __always_inline bool in_networks(const struct address *address, const volatile struct network *networks,
					__u32 count)
{
#pragma unroll
	for (__u32 i = 0; i < NETWORKS_MAX; i++)
		if (i < count && in_network(address, &networks[i]))
			return true;
	return false;
}

/* Can pods be told from others in the family of this address? Where both are alike, the verifier has the answer. */
static __always_inline bool tells_pods(const struct address *address)
{
	if (config.pod_families == (FAMILY_IPV4 | FAMILY_IPV6))
		return true;
	if (!config.pod_families)
		return false;
	return config.pod_families & family_bit(address);
}

/* What the client behind a pod's interface counts as. */
static __always_inline enum client_kind kind_of_pod(const struct address *client)
{
	bool pod = config.local_detector == DETECT_INTERFACE ||
		   (config.local_detector == DETECT_NETWORK &&
		    in_networks(client, config.pod_networks, config.pod_network_count));

	return pod ? CLIENT_POD : CLIENT_OUTSIDE;
}

/*
 * frontend   policy    client     list      masquerade
 * ClusterIP  Cluster   any        Cluster   masquerade-all, or not a pod where pods can be told
 * ClusterIP  Local     any        Local     the same
 * external   Cluster   any        Cluster   yes
 * external   Local     outside    Local     no
 * external   Local     pod        Cluster   no
 * external   Local     node       Cluster   yes
 * HostPort   -         any        its pod   no
 *
 * External frontends are NodePorts, external addresses and those of load balancers. A client that is its own backend
 * is masqueraded in any case; that is decided once the backend is chosen.
 */
static __always_inline struct decision decide(const struct service *service, const struct client *client)
{
	bool local = service->flags & SERVICE_LOCAL;

	if (service->flags & SERVICE_HOST_PORT)
		return (struct decision){ .list = LIST_CLUSTER };
	if (service->flags & SERVICE_CLUSTER_IP)
		return (struct decision){
			.list = local ? LIST_LOCAL : LIST_CLUSTER,
			.masquerade =
				config.masquerade_all || (client->kind != CLIENT_POD && tells_pods(&client->address)),
		};
	if (!local)
		return (struct decision){ .list = LIST_CLUSTER, .masquerade = true };
	return (struct decision){
		.list = client->kind == CLIENT_OUTSIDE ? LIST_LOCAL : LIST_CLUSTER,
		.masquerade = client->kind == CLIENT_NODE,
	};
}

/* May the client use the frontend at all? */
static __always_inline bool in_source_ranges(const struct service *service, const struct address *client)
{
	struct source_range key = { .bits = 8 * (sizeof(key) - sizeof(key.bits)), .service = service->id };

	if (!(service->flags & SERVICE_SOURCE_RANGES))
		return true;
	key.client = *client;
	return !bpf_map_lookup_elem(&source_ranges, &key) == !!(service->flags & SERVICE_SOURCE_DENY);
}

/* What a client gets whose list is empty: an answer where nothing serves anywhere, silence where only this node has
 * nothing to offer, so that a load balancer outside looks for another node. */
static __always_inline enum verdict without_backend(const struct service *service)
{
	if (service->flags & SERVICE_HAS_ENDPOINTS)
		return VERDICT_DROP_NO_LOCAL_BACKEND;
	return config.reject ? VERDICT_REJECT_NO_BACKEND : VERDICT_DROP_NO_BACKEND;
}

/* Leaves what was decided where `kubypass trace` finds it; no code at all in other programs. */
static __always_inline void record(const struct service *service, const struct client *client, struct decision decision,
				   __u32 backend, enum verdict verdict)
{
	struct decision_record found = {
		.service = *service,
		.client = client->address,
		.backend = backend,
		.hook = client->hook,
		.verdict = verdict,
		.client_kind = client->kind,
		.list = decision.list,
		.masquerade = decision.masquerade,
		.found = 1,
	};
	__u32 zero = 0;

	bpf_map_update_elem(&decisions, &zero, &found, BPF_ANY);
}

/* Decides on a new connection: returns VERDICT_PASS with its backend, or why there is none. `affine` is what the
 * client's affinity goes by. */
static __always_inline enum verdict judge(const struct service *service, const struct client *client,
					  const struct address *affine, __u32 random, struct decision *decision,
					  struct backend **backend, __u32 *id)
{
	enum verdict verdict = VERDICT_PASS;

	*decision = decide(service, client);
	if (!in_source_ranges(service, &client->address)) {
		verdict = VERDICT_DROP_SOURCE_RANGE;
	} else {
		*backend = select_backend(service, decision->list, affine, random, id);
		if (!*backend)
			verdict = without_backend(service);
		else if (same_address(&(*backend)->address, &client->address))
			decision->masquerade = true;
	}
	if (config.tracing)
		record(service, client, *decision, *backend ? *id : 0, verdict);
	return verdict;
}
