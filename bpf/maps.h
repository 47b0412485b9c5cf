/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Every map. Sizes are defaults: the loader sets them from the map-size settings. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "kubypass.h"

/* Frontend -> service: which addresses and ports are load-balanced. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct frontend);
	__type(value, struct service);
} services SEC(".maps");

/* The lists of active backends of all services, each a contiguous range of backend identifiers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 524288);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

/* Backend identifier -> backend. Identifier 0 is never used. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

/* Addresses that live on this node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct address);
	__type(value, struct local_address);
} local_addresses SEC(".maps");

/* Connections that the packet path translates, both directions. The least recently used go first when it is full. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 524288);
	__type(key, struct tuple);
	__type(value, struct flow);
} flows SEC(".maps");

/* Programs of the version before, by hook and what they are asked about, while its connections are carried over into `flows`. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PREVIOUS_MAX *HOOK_MAX);
	__type(key, __u32);
	__type(value, __u32);
} previous_programs SEC(".maps");

/* Datagrams whose pieces are on their way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct datagram);
	__type(value, struct datagram_ports);
} fragments SEC(".maps");

/* Key of `queued_fragments`. */
struct fragment_position {
	struct datagram datagram;
	__u32 number; /* in the order of arrival, from 0 */
};

/* Its value: a whole frame. */
struct queued_fragment {
	__u32 length; /* bytes */
	__u8 bytes[QUEUED_FRAGMENT_BYTES];
};

/* Pieces that came before the first one of their datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct fragment_position);
	__type(value, struct queued_fragment);
} queued_fragments SEC(".maps");

/* For one packet: the datagram whose pieces are to follow its first one, and room for a frame. */
struct reunion {
	struct fragment_position piece;
	__u32 waiting;
	struct queued_fragment frame;
};

/* Each CPU's work space for the fragments to be reinjected after the first one of their datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reunion);
} reunions SEC(".maps");

/* Which service address a socket asked for when it was given a backend. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144);
	__type(key, struct socket_peer);
	__type(value, struct socket_service);
} socket_peers SEC(".maps");

/* Network namespaces, by cookie, whose sockets are left alone: their packets are translated instead. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u32);
} socket_lb_off SEC(".maps");

/* NodePorts that processes of the node wanted to listen on. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct node_port);
	__type(value, struct refused_bind);
} refused_binds SEC(".maps");

/* Clients that a service's load balancer addresses let in. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct source_range);
	__type(value, __u32);
} source_ranges SEC(".maps");

/* Which backend a client had last, of services with session affinity. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct affinity_client);
	__type(value, struct affinity);
} affinities SEC(".maps");

/* A connection that is being opened: what a reply looks like, and what becomes of it. */
struct opening {
	struct tuple key;
	struct flow reply;
	__u64 now;
	__u32 node_source; /* the new source is an address of the node, whose sockets have ports too */
	__u32 netns; /* whose sockets may have the port too: the node's, the backend's, or NETNS_UNKNOWN */
	__u32 draws; /* how often to look for a port */
	struct bpf_fib_lookup route; /* as the kernel wants to be asked for the new source */
	struct bpf_sock_tuple sockets; /* and for a socket that has the same port */
	struct snat_destination destination;
	struct snat_failure failure;
};

/* On each CPU one; too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct opening);
} openings SEC(".maps");

/* Connections that found no source port, by backend. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct snat_destination);
	__type(value, struct snat_failure);
} snat_failures SEC(".maps");

/* Tokens for the ICMP messages that we make, per CPU. */
struct icmp_budget {
	__u64 refilled_ns;
	__u64 tokens;
};

/* How many ICMP messages a CPU may still send. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct icmp_budget);
} icmp_budget SEC(".maps");

/* The last decision, where that is asked for: only `kubypass trace` does, in programs of its own. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision_record);
} decisions SEC(".maps");

/* Packets and bytes by hook and verdict. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOOK_MAX *VERDICT_MAX);
	__type(key, __u32);
	__type(value, struct counter);
} metrics SEC(".maps");
