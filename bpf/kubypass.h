/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The ABI: all that Python sees too, and reads from BTF (`make layout`). An upgrade copies map entries by the names of
 * their fields, so a value of an enum that a map keeps never changes its meaning. */
#pragma once

#include <linux/types.h>

#include "verdict.h"

/* Limits and special values that programs and Python share. */
enum abi_constant {
	NETWORKS_MAX = 4, /* pod and service networks that `struct config` has room for */
	NETNS_UNKNOWN = 0x7fffffff, /* in place of a network namespace's number */
	FAMILY_IPV4 = 1, /* bits of settings that are sets of families */
	FAMILY_IPV6 = 2,
	MARK_FORWARDED = 0x4b500000, /* of packets that a hook has redirected to a device, whose own hook passes them */
	MARK_TRACED = 0x4b500001, /* of sockets of `kubypass trace`, which no live map shall notice */
	QUEUED_FRAGMENT_BYTES = 9216, /* a frame of 9000 bytes and its Ethernet header */
	PORT_PAIRS = 65536, /* places of `transient_ports` */
	REFRESH_NS = 1 << 30, /* an entry's expiry is written at most about once in this time */
	POD_DEVICES = 4096, /* slots of `pod_devices` */
	XDP_DEVICES = 256, /* slots of `xdp_devices` */
	QUEUED_FRAGMENTS = 64, /* of one datagram: 65535 bytes in frames of 1500 are 44 */
	MAGLEV_CELLS = 512, /* cells of a table that one entry of `maglev` holds */
};

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2): both families share one set of
 * maps. */
struct address {
	__be32 word[4];
};

/* An address, a port and its protocol (RFC 9260 section 2.3). Key of `services`, where it is a frontend: a NodePort has
 * the unspecified address of its family (::ffff:0.0.0.0 or ::); programs look it up for packets to an address of this
 * node. Key of `snat_failures`: the backend to which the node has no free source port. Value of `socket_peers`: what
 * the application asked for. */
struct transport_address {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

/* What a frontend is (one address may be several things), and what its service specifies. */
enum service_flag {
	SERVICE_CLUSTER_IP = 1,
	SERVICE_NODE_PORT = 2,
	SERVICE_EXTERNAL_IP = 4,
	SERVICE_LOAD_BALANCER = 8,
	SERVICE_LOCAL = 16, /* the traffic policy is Local */
	SERVICE_SOURCE_RANGES = 32, /* only for clients in `source_ranges` */
	SERVICE_HAS_ENDPOINTS = 64, /* some endpoint is usable, perhaps only on other nodes */
	SERVICE_ADDRESS = 128, /* not a frontend but the address itself, at port 0 and protocol 0 */
	SERVICE_HOST_PORT = 256, /* a pod's port on its node */
	SERVICE_SOURCE_DENY = 512, /* `source_ranges` are those that are rejected */
	SERVICE_DSR = 1024, /* backends on other nodes answer clients outside by themselves */
};

/* The two lists of backends of a service port, for the traffic policies Cluster and Local. */
enum backend_list {
	LIST_CLUSTER = 1,
	LIST_LOCAL = 2,
};

/* Value of `services`. The backends of a service port are slots[first_slot ..]: first the Cluster list, then the
 * Local list. One update of this value moves all new connections from complete lists to other complete lists. With
 * Maglev, each list has a table of `cells` cells in `maglev`. */
struct service {
	__u32 id;
	__u32 first_slot;
	__u32 backends; /* in the Cluster list */
	__u32 local_backends; /* in the Local list */
	__u32 flags; /* enum service_flag */
	__u32 affinity_s; /* seconds that a client keeps its backend after its last new connection; 0: no affinity */
	__u64 table; /* the Maglev tables of its lists */
	__u32 cells; /* of each table; 0: backends are selected at random */
	__u32 pad;
};

/* Key of `maglev`: a part of a table. The parts of the Local list's table follow those of the Cluster list's. */
struct maglev_part {
	__u64 table; /* a digest of what the table is made of */
	__u32 number;
	__u32 pad;
};

/* Value of `maglev`: positions in the list, by cell. */
struct maglev_cells {
	__u16 positions[MAGLEV_CELLS];
	__u32 checksum; /* of the positions, by which the agent finds what others have written */
	__u32 pad;
};

/* Key of `source_ranges`, a trie of prefixes: 32 bits of the service, then bits of the client's address. */
struct source_range {
	__u32 bits;
	__u32 service;
	struct address client;
};

/* Key of `affinities`. A client is its address; for sockets, it is the cookie of their network namespace. */
struct affinity_client {
	struct address client;
	__u32 service;
};

/* Value of `affinities`. */
struct affinity {
	__u64 used_ns; /* CLOCK_MONOTONIC, of the last new connection */
	__u32 backend;
	__u32 pad;
};

enum backend_state {
	BACKEND_NONE = 0,
	BACKEND_ACTIVE = 1,
	BACKEND_TERMINATING = 2,
	BACKEND_NOT_READY = 3, /* it keeps its connections and gets no new ones */
};

/* Value of `backends`, at the index that is its identifier. An identifier may be used again: a flow trusts it only
 * while service, address and port are those that the flow was opened with. */
struct backend {
	struct address address;
	__u32 service;
	__be16 port;
	__u8 protocol;
	__u8 state; /* enum backend_state */
	__u32 lists; /* enum backend_list: the lists that contain it */
	__u32 weight; /* its share of a Maglev table, beside others' */
};

enum local_address_kind {
	LOCAL_POD = 1,
	LOCAL_NODE = 2,
	LOCAL_NODE_PORTS = 3, /* the node's, and NodePorts answer on it */
};

/* Value of `local_addresses`: an address on this node, a pod's or the node's own. */
struct local_address {
	__u32 ifindex; /* the pod's veth on the node's side; 0 for the node */
	__u8 mac[6];
	__u8 host_mac[6];
	__u32 kind; /* enum local_address_kind */
	__u32 netns; /* the pod's network namespace by its number in the node's (nsid), or NETNS_UNKNOWN */
};

/* Value of `pod_devices`, at the slot that is the remainder of the device's index: one address of each family, of the
 * pod behind it. A pod without a family has its other address twice, which no packet of the family carries. */
struct pod_device {
	__u32 ifindex; /* 0: none */
	struct address ipv4;
	struct address ipv6;
	struct address link_local; /* of the pod's interface, by its MAC address (RFC 4291 appendix A) */
};

/* Value of `xdp_devices`, at the slot that is the remainder of the device's index: XDP handles its frames. */
struct xdp_device {
	__u32 ifindex; /* 0: none */
	__u8 mac[6];
	__u8 domain; /* enum redirect_domain */
	__u8 pad;
};

/* Key of `flows` and `transient_flows`: a packet as it arrives. */
struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 pad[3];
};

enum flow_state {
	FLOW_NEW = 0, /* only the client's first packets have come */
	FLOW_ESTABLISHED = 1,
	FLOW_CLOSING = 2, /* this direction has ended */
	FLOW_CLOSED = 3, /* the connection is over */
};

enum flow_direction {
	FLOW_FORWARD = 0,
	FLOW_REPLY = 1,
};

enum flow_flag {
	FLOW_FLAG_FROM_SELF = 1, /* the node connected to its own address: replies return by the loopback device */
	FLOW_FLAG_NUMBERED = 2, /* of TCP: `end` and `acknowledged` are known */
	FLOW_FLAG_OPENING = 4, /* the client has not shown yet that it gets answers */
	FLOW_FLAG_DSR = 16, /* answers do not pass this node */
	FLOW_FLAG_SERVED = 32, /* another node has balanced it in DSR mode */
	FLOW_FLAG_STAYS = 8, /* XDP has seen that it leads to an address of this node */
};

/* Value of both: what the packet becomes. A connection has two entries, one for each direction. */
struct flow {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 service;
	__u32 backend;
	__u8 state; /* enum flow_state */
	__u8 direction; /* enum flow_direction */
	__u8 flags; /* enum flow_flag */
	__u8 pad;
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__u32 end; /* of TCP: the sequence number after the last one that came this way */
	__u32 acknowledged; /* of TCP: the last acknowledgment number that came this way */
};

/* Key of `fragments`: a fragmented datagram (RFC 791 section 3.2, RFC 8200 section 4.5). */
struct datagram {
	struct address source;
	struct address destination;
	__be32 identification;
	__u8 protocol; /* 0 in IPv6, where it does not identify the datagram */
	__u8 pad[3];
};

/* What is known of a fragmented datagram. */
enum datagram_state {
	DATAGRAM_AWAITED = 0, /* its first fragment has not come yet */
	DATAGRAM_TRANSLATED = 1,
	DATAGRAM_PLAIN = 2, /* nothing of it is translated */
};

/* Value of `fragments`: what only the first fragment says, or how many fragments wait for it. */
struct datagram_ports {
	__u64 expires_ns; /* CLOCK_MONOTONIC */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 state; /* enum datagram_state */
	__u16 waiting; /* fragments in `queued_fragments` */
};

/* Key of `queued_fragments`. */
struct fragment_position {
	struct datagram datagram;
	__u32 number; /* in the order of arrival, from 0 */
};

/* Value of `queued_fragments`: a whole frame. */
struct queued_fragment {
	__u32 length; /* bytes */
	__u8 bytes[QUEUED_FRAGMENT_BYTES];
};

/* Key of `socket_peers`: a socket and the backend it talks to. */
struct socket_peer {
	__u64 cookie;
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 pad[5];
};

/* Key of `refused_binds`: a NodePort that a process of the node tried to listen on. */
struct node_port {
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

/* Value of `refused_binds`: the process that was refused last. */
struct refused_bind {
	struct address address;
	__u64 at_ns; /* CLOCK_MONOTONIC */
	__u32 pid;
	__u32 times; /* refusals since the entry was made */
	__u8 command[16];
};

/* Value of `snat_failures`. */
struct snat_failure {
	__u64 connections; /* that were dropped */
	__u64 last_ns; /* CLOCK_MONOTONIC */
};

/* When the previous version's program is tried. Indices of `previous_programs`: kind * HOOK_MAX + hook,
 * and PREVIOUS_MAX * HOOK_MAX more for the programs of devices without Ethernet header. */
enum previous_kind {
	PREVIOUS_KNOWN = 0, /* for packets that open no connection to a service: it may know their connections */
	PREVIOUS_ALL = 1, /* for all, while both versions see packets: connections have to be opened in its maps */
	PREVIOUS_MAX = 2,
};

/* Value of `metrics`, per CPU, at index hook * VERDICT_MAX + verdict. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* How a client is recognised as a pod. */
enum local_detector {
	DETECT_NONE = 0,
	DETECT_NETWORK = 1, /* its address is in one of pod_networks */
	DETECT_INTERFACE = 2, /* its packets come from a pod's interface */
};

/* Key of `inside`, a trie of prefixes of addresses. */
struct prefix {
	__u32 bits;
	struct address address;
};

/* Addresses of the node, or of one of its uplinks; all zero: none of the family. */
struct node_addresses {
	struct address ipv4;
	struct address ipv6;
	__u32 only; /* of the node: the families (FAMILY_IPV4, FAMILY_IPV6) in which it has no other address */
};

struct network {
	struct address address;
	struct address mask;
};

/* Who opens a connection. */
enum client_kind {
	CLIENT_OUTSIDE = 0,
	CLIENT_POD = 1,
	CLIENT_NODE = 2,
};

/* Value of `decisions`: what was decided on a new connection, for `kubypass trace`. `backend` is 0 where none was
 * found; `verdict` is the decision's, before the packet is forwarded. */
struct decision_record {
	struct service service;
	struct address client;
	__u32 backend;
	__u32 hook;
	__u32 verdict;
	__u8 client_kind; /* enum client_kind */
	__u8 list; /* enum backend_list */
	__u8 masquerade;
	__u8 found; /* a service was found, so there is a decision */
};
