/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What is too large for the stack while a packet is handled. Programs do not share it: it is no part of the ABI. */
#pragma once

#include <linux/bpf.h>

#include "kubypass.h"
#include "packet.h"

/* A connection that is being opened: both of its entries, and what the search for a source port works with. */
struct nat_setup {
	struct tuple reply_key;
	struct flow reply;
	struct flow forward;
	__u64 now;
	__u32 node_source; /* the new source is an address of the node, whose sockets have ports too */
	__u32 netns_to_check; /* whose sockets may have the port; BPF_F_CURRENT_NETNS is the node's */
	__u32 attempts; /* how often to search for a port */
	__u32 may_keep_port; /* the new source may have the client's own port */
	__u32 crowded; /* one search has found none that is free */
	__u32 reopens; /* the client's ports may have the entry of a connection that is over or has lost its backend */
	struct prefix outside; /* the address that a pod sends to */
	struct address source; /* of pods' connections to the outside */
	struct bpf_fib_lookup route; /* to the backend, for the source address */
	union {
		struct tuple received; /* what a socket with the same port would receive */
		struct bpf_sock_tuple sockets; /* the same: its IPv6 part is how a tuple begins */
	};
	struct transport_address destination;
	struct snat_failure failure;
};

/* The first fragment's datagram, whose queued fragments follow it, and room for a frame. */
struct reinjection {
	struct fragment_position position;
	__u32 waiting; /* fragments in the queue */
	struct queued_fragment frame;
};

/* The packet that an ICMP error quotes, and what that packet was when its sender sent it. */
struct icmp_quotation {
	struct tuple quoted;
	struct tuple sent;
	__u32 l4_offset; /* of the quoted transport header */
	__u16 direct; /* the packet without ports goes to a backend whose node answers */
	__u16 to_backend; /* whether the quoted packet was a client's */
};

/* A packet that may change its connection. Of TCP: where its data ends, where that of its direction had ended before,
 * and whether its numbers were near those before. */
struct flow_change {
	struct packet packet;
	__u64 now;
	__u32 end;
	__u32 known_end;
	__u64 near;
};

/* A packet of a service in DSR mode: as it arrived, its frontend, and the backend that was selected for a new
 * connection. */
struct dsr_setup {
	struct tuple arrived;
	struct tuple again; /* the connection of this packet is opened again, without DSR; protocol 0: of none */
	struct address frontend;
	__be16 port;
	__u16 pad;
	__u32 service;
	__u32 backend;
	__u32 refusal; /* enum dsr_refusal: why it is masqueraded */
};

/* A packet that the node's stack forwards. Value of `passages`, too. */
struct passage {
	struct tuple seen; /* as the stack sees it */
	struct tuple target; /* as it leaves */
	struct tuple quoted; /* what an ICMP error quotes as it leaves; protocol 0: the packet is none */
};

struct scratch {
	struct dsr_setup dsr;
	struct flow_change change;
	struct nat_setup nat;
	struct icmp_quotation icmp;
	struct reinjection reinjection;
	struct passage passage;
	__u32 passages; /* that this CPU has begun */
};

/* Value of `icmp_budget`: how many ICMP messages a CPU may still send. */
struct icmp_budget {
	__u64 refilled_ns;
	__u64 tokens;
};
