/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The settings of a program: the loader writes them before the verifier sees it, so that what is off is not there. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "kubypass.h"

/* Settings and what the agent found on the node; constant once the programs are loaded. */
struct config {
	__u64 node_netns_cookie; /* sockets with another cookie belong to pods; 0: of the initial one */
	__u64 tcp_timeout_ns;
	__u64 tcp_syn_timeout_ns;
	__u64 tcp_fin_timeout_ns;
	__u64 any_timeout_ns;
	__u64 seed; /* of the choice of backends */
	__u64 maglev_seed; /* of the choice of cells: the same on every node */
	__u32 snat_port_first; /* source ports for connections whose clients' own are taken: snat_ports from here */
	__u32 snat_ports;
	__u32 snat_extra_first; /* and snat_extra_ports from here */
	__u32 snat_extra_ports;
	__u32 passages_a_cpu; /* legacy host routing: how many packets of a CPU may be in the stack; 0: BPF forwards */
	__u8 socket_lb_pods; /* translate in pods' socket calls, not only in the node's */
	__u8 external_cluster_ip; /* ClusterIPs answer to clients outside */
	__u8 socket_lb_refuse; /* bpf_set_retval exists: calls fail with the error that fits, not with EPERM */
	__u8 coarse_clock; /* bpf_ktime_get_coarse_ns exists */
	__u8 local_detector; /* enum local_detector */
	__u8 masquerade_all; /* hide every client of a ClusterIP */
	__u8 localhost_node_ports; /* NodePorts answer the node on loopback: bit 0 of IPv4, bit 1 of IPv6 */
	__u8 reject; /* tell clients of a service without backends, with ICMP; otherwise their packets are dropped */
	__u8 answer_ping; /* service addresses answer echo requests */
	__u8 pod_network_count;
	__u8 service_network_count;
	__u8 tracing; /* each decision is written to `decisions` */
	__u8 route_source; /* bpf_fib_lookup tells the source address of a route */
	__u8 pod_families; /* in which the detector tells pods from others: bit 0 IPv4, bit 1 IPv6 */
	__u8 verify_sources; /* pods send from their own addresses only */
	__u8 masquerade; /* pods reach the outside with the node's address: bit 0 of IPv4, bit 1 of IPv6 */
	__u8 dsr; /* services may be in DSR mode, and DSR options of other nodes are obeyed */
	__u8 inside_network_count;
	__u8 frags; /* XDP gets frames in several buffers, and bpf_xdp_get_buff_len exists */
	__u8 tunnel; /* DSR: tunnels of other nodes end here */
	struct network pod_networks[NETWORKS_MAX];
	struct network service_networks[NETWORKS_MAX]; /* where cluster addresses come from */
	struct network inside_networks[NETWORKS_MAX]; /* of `inside`, those that settings name: they cost no lookup */
};

const volatile struct config config SEC(".rodata");
