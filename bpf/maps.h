/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map, with one sentence each; docs/maps.md is made of them. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "kubypass.h"
#include "scratch.h"

#define SIZED_BY_SETTINGS 1 /* the loader sets the number of entries */

/* Frontend -> service: the addresses and ports that are load-balanced. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, struct frontend);
	__type(value, struct service);
} services SEC(".maps");

/* Slot -> backend identifier: the lists of backends of all services, each a contiguous range. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* Backend identifier -> backend. Identifier 0 is never used. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

/* Addresses on this node: its own and those of its pods. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, struct local_address);
} local_addresses SEC(".maps");

/* The node's primary addresses: where no route has another, translated packets are sent from them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node_addresses);
} node_addresses SEC(".maps");

/* Devices of pods, by the remainder of their indexes: the address that most packets of a pod carry. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, POD_DEVICES);
	__type(key, __u32);
	__type(value, struct pod_device);
} pod_devices SEC(".maps");

/* Devices of pods that may send from addresses that are not theirs, such as routers in pods. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u32);
} foreign_sources SEC(".maps");

/* TCP connections that are translated packet by packet, in both directions; the least recently used is evicted. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, struct tuple);
	__type(value, struct flow);
} flows SEC(".maps");

/* The same of other protocols, and of TCP until the client has confirmed the connection: floods stay in here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, struct tuple);
	__type(value, struct flow);
} transient_flows SEC(".maps");

/* Ports of two ends -> until when `transient_flows` may have an entry of them: most packets need no look at that. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORT_PAIRS);
	__type(key, __u32);
	__type(value, __u32);
} transient_ports SEC(".maps");

/* The previous version's programs, while an upgrade copies its connections into `flows`. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2 * PREVIOUS_MAX * HOOK_MAX);
	__type(key, __u32);
	__type(value, __u32);
} previous_programs SEC(".maps");

/* Fragmented datagrams whose fragments are on their way: the ports that only the first fragment has. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, struct datagram);
	__type(value, struct datagram_ports);
} fragments SEC(".maps");

/* Fragments that came before the first one of their datagram, as whole frames. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct fragment_position);
	__type(value, struct queued_fragment);
} queued_fragments SEC(".maps");

/* Socket and backend -> the service address that the socket asked for. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SIZED_BY_SETTINGS);
	__type(key, struct socket_peer);
	__type(value, struct socket_service);
} socket_peers SEC(".maps");

/* Cookies of network namespaces whose sockets are excluded: their packets are translated instead. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} socket_lb_off SEC(".maps");

/* NodePorts that processes of the node tried to listen on. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct node_port);
	__type(value, struct refused_bind);
} refused_binds SEC(".maps");

/* Service and client prefix: the clients that a service admits, or rejects. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct source_range);
	__type(value, __u32);
} source_ranges SEC(".maps");

/* Client and service -> the client's last backend, for services with session affinity. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct affinity_client);
	__type(value, struct affinity);
} affinities SEC(".maps");

/* What a program works with that is too large for its stack: one entry for each CPU, for one packet at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* Backend -> connections that found no free source port. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct snat_destination);
	__type(value, struct snat_failure);
} snat_failures SEC(".maps");

/* How many ICMP messages a CPU may still send. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct icmp_budget);
} icmp_budget SEC(".maps");

/* The last decision; only the programs of `kubypass trace` write it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision_record);
} decisions SEC(".maps");

/* Hook and verdict -> packets and bytes. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_MAX *VERDICT_MAX);
	__type(key, __u32);
	__type(value, struct counter);
} metrics SEC(".maps");

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
