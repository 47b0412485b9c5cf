/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the agent tells programs of DSR, and they tell it: a part of the ABI (kubypass.h). */
#pragma once

#include "kubypass.h"

/* How DSR tells the backend's node the frontend. */
enum dsr_dispatch {
	DSR_NONE = 0, /* it cannot: connections are masqueraded */
	DSR_OPTION = 1, /* an option of IPv4, or a destination option of IPv6 */
	DSR_GENEVE = 2, /* an option of Geneve, in which its packets go to the node */
};

/* Why a connection of a service in DSR mode is masqueraded. */
enum dsr_refusal {
	DSR_REFUSED_PEER = 0, /* the backend's node is not known to take part */
	DSR_REFUSED_OPTIONS = 1, /* the packet has IP options or extension headers already */
	DSR_REFUSED_CLASH = 2, /* the client has another connection to the backend, from the same port */
	DSR_REFUSED_UNANSWERED = 3, /* the client repeats its SYN: what was sent in DSR mode has no answer */
	DSR_REFUSED_SIZE = 4, /* with the option it would not fit, and its sender lets routers cut it */
	DSR_REFUSED_SEGMENTS = 5, /* datagrams came joined, which a tunnel does not carry */
	DSR_REFUSAL_MAX = 6,
};

/* Value of `dsr_peers`, at the networks of a node's pods and at its addresses. */
struct dsr_peer {
	__u32 dispatch; /* enum dsr_dispatch */
	__u32 is_node; /* the node's own address, where its NodePorts are */
	__u32 mtu; /* what fits the path to it; 0: what routes say */
	struct address node; /* the node's own, to which tunnels lead */
};
