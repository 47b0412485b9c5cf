/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The hooks, and every outcome of a packet or a socket call: a part of the ABI (kubypass.h). */
#pragma once

/* Where a packet or a socket call is judged; hook.h says what each knows. */
enum hook {
	HOOK_SOCKET = 0,
	HOOK_FROM_POD = 1,
	HOOK_FROM_UPLINK = 2,
	HOOK_TO_UPLINK = 3,
	HOOK_TO_POD = 4,
	HOOK_TO_SELF = 5, /* on the node's loopback device */
	HOOK_XDP = 6, /* before from_uplink, which sees what passes */
	HOOK_MAX = 7,
};

/* Values below VERDICT_DROP let the packet or the call continue, a queued packet later. The others end it. */
enum verdict {
	VERDICT_PASS = 0, /* to the node's own network stack, or a socket call as it is */
	VERDICT_TO_POD = 1,
	VERDICT_TO_NETWORK = 2,
	VERDICT_TRANSLATED = 3, /* a socket call was given a backend, or its service's address back */
	VERDICT_QUEUED = 4, /* a fragment whose datagram's first fragment has not come: it is reinjected after that */
	VERDICT_FOREIGN = 5, /* to the stack as it came: for another host or VLAN, or from an address that none has */
	VERDICT_DSR = 6, /* to the network, for a backend whose node answers the client itself */
	VERDICT_DROP = 8, /* never returned: the drops begin here */
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
	VERDICT_DROP_NO_LOCAL_BACKEND = 19, /* the policy is Local, and the backends are on other nodes */
	VERDICT_DROP_SOURCE_RANGE = 20,
	VERDICT_DROP_NO_SERVICE = 21, /* the address is reserved for services, and no service has it */
	VERDICT_DROP_LOOP = 22, /* a service's address, not its port: the network would return the packet for ever */
	VERDICT_DROP_NODE_PORT_TAKEN = 23, /* a process of the node tried to listen on a NodePort */
	VERDICT_DROP_FOREIGN_SOURCE = 24, /* a pod sends from an address that is not its own */
	VERDICT_DROP_DSR = 25, /* a DSR option that no node of the cluster can have put on */
	VERDICT_DROP_DSR_CLASH = 26, /* in DSR mode, but the client has another connection like it to the backend */
	VERDICT_DROP_DSR_TUNNEL = 27, /* in Geneve with a DSR option, as no node of the cluster can have sent it */
	VERDICT_ANSWER = 32, /* never returned: the following tell the sender, by ICMP or by an error of its call */
	VERDICT_REJECT_NO_BACKEND = 33,
	VERDICT_REJECT_NO_SERVICE = 34, /* a service has the address, none has the port */
	VERDICT_ANSWER_TOO_BIG = 35, /* with the MTU of the route to the backend, or back */
	VERDICT_ANSWER_TTL_EXPIRED = 36,
	VERDICT_ANSWER_ECHO = 37, /* a ping of a service's address */
	VERDICT_MAX = 40,
};

/* Value of `inside`: why pods reach the addresses with their own. */
enum inside_reason {
	INSIDE_NATIVE = 1, /* a native-routing CIDR */
	INSIDE_PODS = 2, /* a network of pods */
	INSIDE_NODE = 3, /* an address of a node */
	INSIDE_AGENT = 4, /* ip-masq-agent's list */
	INSIDE_FAMILY = 5, /* all of a family that cannot be masqueraded, so that no packet asks for its route */
};

/* How a device takes frames that XDP redirects. */
enum redirect_domain {
	REDIRECT_NONE = 0, /* it takes none */
	REDIRECT_GENERIC = 1, /* those of other devices in generic mode */
	REDIRECT_NATIVE = 2, /* those of other devices in native mode */
};
