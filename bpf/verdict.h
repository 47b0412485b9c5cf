/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where packets and socket calls are judged, and every outcome. A part of the ABI (kubypass.h). */
#pragma once

/* Where a packet or a socket call is judged. */
enum hook {
	HOOK_SOCKET = 0,
	HOOK_FROM_POD = 1,
	HOOK_FROM_UPLINK = 2,
	HOOK_TO_UPLINK = 3,
	HOOK_TO_POD = 4,
	HOOK_TO_SELF = 5, /* by the node's loopback device */
	HOOK_MAX = 6,
};

/* Every outcome. Values below VERDICT_DROP let the packet (or the call) go on, a held one later; the others end it. */
enum verdict {
	VERDICT_PASS = 0, /* to the node's own network stack, or a socket call left as it is */
	VERDICT_TO_POD = 1,
	VERDICT_TO_NETWORK = 2,
	VERDICT_TRANSLATED = 3, /* a socket call was given a backend, or its service address back */
	VERDICT_QUEUED = 4, /* a piece of a datagram whose first one has not come: it comes again behind that */
	VERDICT_DROP = 8, /* never returned: where the drops begin */
	VERDICT_DROP_MALFORMED = 9,
	VERDICT_DROP_NO_BACKEND = 10,
	VERDICT_DROP_EXTERNAL_CLUSTER_IP = 11,
	VERDICT_DROP_FRAGMENT = 12,
	VERDICT_DROP_FLOWS_FULL = 13,
	VERDICT_DROP_NO_SNAT_PORT = 14,
	VERDICT_DROP_TTL_EXPIRED = 15,
	VERDICT_DROP_NO_ROUTE = 16,
	VERDICT_DROP_TOO_BIG = 17,
	VERDICT_DROP_REWRITE = 18,
	VERDICT_DROP_NO_LOCAL_BACKEND = 19, /* the policy is Local, and the backends are elsewhere */
	VERDICT_DROP_SOURCE_RANGE = 20,
	VERDICT_DROP_NO_SERVICE = 21, /* an address that is reserved for services, and no service has */
	VERDICT_DROP_LOOP = 22, /* a service address, but no service: the network would send it back for ever */
	VERDICT_DROP_NODE_PORT_TAKEN = 23, /* a process of the node wanted to listen on a NodePort */
	VERDICT_ANSWER = 32, /* never returned: what follows tells the sender, by ICMP or an error of its call */
	VERDICT_REJECT_NO_BACKEND = 33,
	VERDICT_REJECT_NO_SERVICE = 34, /* a port that no service has, on an address that one has */
	VERDICT_ANSWER_TOO_BIG = 35, /* with the MTU of the way to the backend, or back */
	VERDICT_ANSWER_TTL_EXPIRED = 36,
	VERDICT_ANSWER_ECHO = 37, /* a ping of a service's address */
	VERDICT_MAX = 40,
};
