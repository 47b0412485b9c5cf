/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map, with one sentence each; docs/maps.md is made of them. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "dsr_peer.h"
#include "kubypass.h"
#include "scratch.h"

#define SIZED_BY_SETTINGS 1 /* the loader sets the number of entries */

/* Defines a map; what follows its value are further members. */
#define MAP(name, kind, entries, key_type, value_type, ...)                                                            \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_##kind);                                                                     \
		__uint(max_entries, entries);                                                                          \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
		__VA_ARGS__;                                                                                           \
	} name SEC(".maps")

/* Frontend -> service: the addresses and ports that are load-balanced. */
MAP(services, HASH, SIZED_BY_SETTINGS, struct transport_address, struct service);

/* Slot -> backend identifier: the lists of backends of all services, each a contiguous range. */
MAP(slots, ARRAY, SIZED_BY_SETTINGS, __u32, __u32);

/* Part of a Maglev table -> its cells. Only the parts that exist take memory. */
MAP(maglev, HASH, SIZED_BY_SETTINGS, struct maglev_part, struct maglev_cells, __uint(map_flags, BPF_F_NO_PREALLOC));

/* Backend identifier -> backend. Identifier 0 is never used. */
MAP(backends, ARRAY, SIZED_BY_SETTINGS, __u32, struct backend);

/* Addresses on this node: its own and those of its pods. */
MAP(local_addresses, HASH, 16384, struct address, struct local_address);

/* The node's primary addresses: where no route has another, translated packets are sent from them. */
MAP(node_addresses, ARRAY, 1, __u32, struct node_addresses);

/* Uplinks -> the addresses that pods reach the outside with, where no route has another. */
MAP(uplinks, HASH, 1024, __u32, struct node_addresses);

/* Prefixes of addresses that pods reach with their own: the cluster's, and those that settings name. */
MAP(inside, LPM_TRIE, 65536, struct prefix, __u32, __uint(map_flags, BPF_F_NO_PREALLOC));

/* Pods' networks and addresses of the other nodes -> how DSR reaches them; nobody there is a client outside. */
MAP(dsr_peers, LPM_TRIE, 65536, struct prefix, struct dsr_peer, __uint(map_flags, BPF_F_NO_PREALLOC));

/* Why connections of services in DSR mode were masqueraded (enum dsr_refusal) -> how many. */
MAP(dsr_refusals, PERCPU_ARRAY, DSR_REFUSAL_MAX, __u32, __u64);

/* Devices of pods, by the remainder of their indexes: the address that most packets of a pod carry. */
MAP(pod_devices, ARRAY, POD_DEVICES, __u32, struct pod_device);

/* Uplinks by the remainder of their indexes: those whose frames XDP handles; on others, it passes everything. */
MAP(xdp_devices, ARRAY, XDP_DEVICES, __u32, struct xdp_device);

/* Devices of pods that may send from addresses that are not theirs, such as routers in pods. */
MAP(foreign_sources, HASH, 16384, __u32, __u32);

/* TCP connections that are translated packet by packet, in both directions; the least recently used is evicted. */
MAP(flows, LRU_HASH, SIZED_BY_SETTINGS, struct tuple, struct flow);

/* The same of other protocols, and of TCP until the client has confirmed the connection: floods stay in here. */
MAP(transient_flows, LRU_HASH, SIZED_BY_SETTINGS, struct tuple, struct flow);

/* Ports of two ends -> until when `transient_flows` may have an entry of them: most packets need no look at that. */
MAP(transient_ports, ARRAY, PORT_PAIRS, __u32, __u32);

/* The previous version's programs, while an upgrade copies its connections into `flows`. */
MAP(previous_programs, PROG_ARRAY, 2 * PREVIOUS_MAX * HOOK_MAX, __u32, __u32);

/* Fragmented datagrams whose fragments are on their way: the ports that only the first fragment has. */
MAP(fragments, LRU_HASH, SIZED_BY_SETTINGS, struct datagram, struct datagram_ports);

/* Fragments that came before the first one of their datagram, as whole frames. */
MAP(queued_fragments, LRU_HASH, 256, struct fragment_position, struct queued_fragment);

/* Packets that the node's stack forwards, with legacy host routing: what they become where they leave. */
MAP(passages, ARRAY, SIZED_BY_SETTINGS, __u32, struct passage);

/* Socket and backend -> the service address that the socket asked for. */
MAP(socket_peers, LRU_HASH, SIZED_BY_SETTINGS, struct socket_peer, struct transport_address);

/* Cookies of network namespaces whose sockets are excluded: their packets are translated instead. */
MAP(socket_lb_off, HASH, 16384, __u64, __u32);

/* NodePorts that processes of the node tried to listen on. */
MAP(refused_binds, LRU_HASH, 1024, struct node_port, struct refused_bind);

/* Service and client prefix: the clients that a service admits, or rejects. */
MAP(source_ranges, LPM_TRIE, 65536, struct source_range, __u32, __uint(map_flags, BPF_F_NO_PREALLOC));

/* Client and service -> the client's last backend, for services with session affinity. */
MAP(affinities, LRU_HASH, 65536, struct affinity_client, struct affinity);

/* What a program works with that is too large for its stack: one entry for each CPU, for one packet at a time. */
MAP(scratch, PERCPU_ARRAY, 1, __u32, struct scratch);

/* Backend -> connections that found no free source port. */
MAP(snat_failures, LRU_HASH, 1024, struct transport_address, struct snat_failure);

/* How many ICMP messages a CPU may still send. */
MAP(icmp_budget, PERCPU_ARRAY, 1, __u32, struct icmp_budget);

/* The last decision; only the programs of `kubypass trace` write it. */
MAP(decisions, ARRAY, 1, __u32, struct decision_record);

/* Hook and verdict -> packets and bytes. */
MAP(metrics, PERCPU_ARRAY, HOOK_MAX *VERDICT_MAX, __u32, struct counter);

/* Returns this CPU's scratch entry; NULL, which never happens, satisfies the verifier. */
static __always_inline struct scratch *this_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Returns the node's primary address of a family; NULL, which never happens, satisfies the verifier. */
static __always_inline const struct address *primary_address(bool is_ipv4)
{
	__u32 zero = 0;
	struct node_addresses *node = bpf_map_lookup_elem(&node_addresses, &zero);

	if (!node)
		return NULL;
	return is_ipv4 ? &node->ipv4 : &node->ipv6;
}
