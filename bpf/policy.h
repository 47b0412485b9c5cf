/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* kube-proxy's truth tables: which clients may use a frontend, which of its two lists of backends a client gets, and
 * whether the client is masqueraded. Socket calls and packets are judged alike. */
#pragma once

#include "config.h"
#include "hook.h"
#include "select.h"
#include "service.h"

/* Who opens a connection, at which hook. */
struct client {
	const struct address *address;
	enum client_kind kind;
	enum hook hook;
};

struct decision {
	struct backend *backend; /* NULL: `verdict` says why there is none */
	__u32 id; /* the backend's identifier */
	enum verdict verdict;
	enum backend_list list;
	bool masquerade; /* unless the backend is the node itself */
	__u8 pad[3];
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

/* Does the detector recognise pods in the family of this address? Where both families are alike, the verifier knows. */
static __always_inline bool recognises_pods(const struct address *address)
{
	if (config.pod_families == (FAMILY_IPV4 | FAMILY_IPV6))
		return true;
	if (!config.pod_families)
		return false;
	return config.pod_families & family_bit(address);
}

/* Returns how a client behind a pod's interface counts. */
static __always_inline enum client_kind kind_of_pod(const struct address *client)
{
	bool pod = config.local_detector == DETECT_INTERFACE ||
		   (config.local_detector == DETECT_NETWORK &&
		    in_networks(client, config.pod_networks, config.pod_network_count));

	return pod ? CLIENT_POD : CLIENT_OUTSIDE;
}

/* Do clients keep their address towards the service's backends, also those on other nodes? */
static __always_inline bool is_direct(const struct service *service, enum hook hook)
{
	return config.dsr && from_network(hook) && (service->flags & SERVICE_DSR);
}

/*
 * frontend   policy    client     list      masquerade
 * ClusterIP  Cluster   any        Cluster   masquerade-all, or not a pod where the detector recognises pods
 * ClusterIP  Local     any        Local     the same
 * external   Cluster   any        Cluster   yes
 * external   Local     outside    Local     no
 * external   Local     pod        Cluster   no
 * external   Local     node       Cluster   yes
 * external   Cluster   by uplink  Cluster   no, in DSR mode; where a backend elsewhere cannot answer, yes (dsr_send.h)
 * HostPort   -         any        its pod   no
 *
 * External frontends are NodePorts, external addresses and load balancer addresses. A client that is its own backend is
 * masqueraded in any case, which is decided once the backend is selected.
 */
static __always_inline struct decision decide(const struct service *service, const struct client *client)
{
	bool local = service->flags & SERVICE_LOCAL;

	if (service->flags & SERVICE_HOST_PORT)
		return (struct decision){ .list = LIST_CLUSTER };
	if (service->flags & SERVICE_CLUSTER_IP)
		return (struct decision){
			.list = local ? LIST_LOCAL : LIST_CLUSTER,
			.masquerade = config.masquerade_all ||
				      (client->kind != CLIENT_POD && recognises_pods(client->address)),
		};
	if (!local)
		return (struct decision){
			.list = LIST_CLUSTER,
			.masquerade = !is_direct(service, client->hook),
		};
	return (struct decision){
		.list = client->kind == CLIENT_OUTSIDE ? LIST_LOCAL : LIST_CLUSTER,
		.masquerade = client->kind == CLIENT_NODE,
	};
}

/* May a client with this address use the service? */
static __always_inline bool admits_source(const struct service *service, const struct address *client)
{
	struct source_range key = { .bits = 8 * (sizeof(key) - sizeof(key.bits)), .service = service->id };

	if (!(service->flags & SERVICE_SOURCE_RANGES))
		return true;
	key.client = *client;
	return !bpf_map_lookup_elem(&source_ranges, &key) == !!(service->flags & SERVICE_SOURCE_DENY);
}

/* Returns the verdict for a client whose list is empty: a rejection where the service has no endpoint anywhere, a
 * drop where only this node has none, so that a load balancer outside tries another node. */
static __always_inline enum verdict without_backend(const struct service *service)
{
	if (service->flags & SERVICE_HAS_ENDPOINTS)
		return VERDICT_DROP_NO_LOCAL_BACKEND;
	return config.reject ? VERDICT_REJECT_NO_BACKEND : VERDICT_DROP_NO_BACKEND;
}

/* Writes the decision for `kubypass trace`. Other programs have no code for it. */
static __always_inline void record_decision(const struct service *service, const struct client *client,
					    const struct decision *decision)
{
	struct decision_record found = {
		.service = *service,
		.client = *client->address,
		.backend = decision->backend ? decision->id : 0,
		.hook = client->hook,
		.verdict = decision->verdict,
		.client_kind = client->kind,
		.list = decision->list,
		.masquerade = decision->masquerade,
		.found = 1,
	};
	__u32 zero = 0;

	bpf_map_update_elem(&decisions, &zero, &found, BPF_ANY);
}

/* Judges a new connection. Session affinity identifies the client by `affine`. */
static __always_inline struct decision judge(const struct service *service, const struct client *client,
					     const struct address *affine, __u32 number)
{
	struct decision decision = decide(service, client);

	if (!admits_source(service, client->address)) {
		decision.verdict = VERDICT_DROP_SOURCE_RANGE;
	} else {
		decision.backend = select_backend(service, decision.list, affine, number, &decision.id);
		if (!decision.backend)
			decision.verdict = without_backend(service);
		else if (same_address(&decision.backend->address, client->address))
			decision.masquerade = true;
	}
	if (config.tracing)
		record_decision(service, client, &decision);
	return decision;
}
