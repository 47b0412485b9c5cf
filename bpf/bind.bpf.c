// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Bind protection: a process of the node cannot listen on a NodePort. It would get no clients, since their packets
 * go to the service. A sysctl keeps the kernel from choosing such ports. */
#include "count.h"
#include "service.h"
#include "socket.h"

static __always_inline bool is_node_port(const struct address *any, const struct transport_address *at)
{
	struct service *service = lookup_frontend(any, at->port, at->protocol);

	return service && (service->flags & SERVICE_NODE_PORT);
}

/* Would a socket that is bound to `at` share clients with a NodePort? */
static __always_inline bool takes_node_port(const struct transport_address *at)
{
	struct address any = unspecified_address(&at->address), any_ipv4 = ipv4_address(0);
	struct local_address *local;

	/* A socket on :: gets IPv4 clients as well, unless it has IPV6_V6ONLY, which a program cannot see. */
	if (same_address(&at->address, &any))
		return is_node_port(&any, at) || is_node_port(&any_ipv4, at);
	local = lookup_local_address(&at->address);
	if (!answers_on_loopback(&at->address) && (!local || local->kind != LOCAL_NODE_PORTS))
		return false;
	return is_node_port(&any, at);
}

/* Tells the agent which process tried to listen on which port. */
static __always_inline void note_refusal(const struct transport_address *at)
{
	struct node_port key = { .port = at->port, .protocol = at->protocol };
	struct refused_bind refused = {
		.address = at->address,
		.at_ns = now_ns(),
		.pid = bpf_get_current_pid_tgid() >> 32,
		.times = 1,
	};
	struct refused_bind *before = bpf_map_lookup_elem(&refused_binds, &key);

	if (before)
		refused.times += before->times;
	bpf_get_current_comm(refused.command, sizeof(refused.command));
	bpf_map_update_elem(&refused_binds, &key, &refused, BPF_ANY);
}

static __always_inline int handle_bind(struct bpf_sock_addr *call, int family)
{
	struct transport_address at = {};

	if (!read_call(call, family, &at) || !at.port || !is_node_namespace(bpf_get_netns_cookie(call)) ||
	    !takes_node_port(&at))
		return SOCKET_PROCEED;
	note_refusal(&at);
	count(HOOK_SOCKET, VERDICT_DROP_NODE_PORT_TAKEN, 0);
	if (config.socket_lb_refuse)
		bpf_set_retval(-EADDRINUSE);
	return SOCKET_REFUSE;
}

SOCKET_PROGRAM(bind4, handle_bind(call, 4))
SOCKET_PROGRAM(bind6, handle_bind(call, 6))

char _license[] SEC("license") = "Dual BSD/GPL";
