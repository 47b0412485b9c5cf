// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Bind protection: a process of the node cannot take a port that is a NodePort here. It would get none of the clients
 * that dial it, since their packets go to the service. Ports that the kernel chooses are kept clear by a sysctl. */
#include "service.h"
#include "socket.h"
#include "finish.h"

static __always_inline bool is_node_port(const struct address *any, const struct socket_address *at)
{
	struct service *service = lookup_frontend(any, at->port, at->protocol);

	return service && (service->flags & SERVICE_NODE_PORT);
}

/* Would a socket that is bound there share clients with a NodePort? */
static __always_inline bool takes_node_port(const struct socket_address *at)
{
	struct address any = unspecified_address(&at->address), any_ipv4 = ipv4_address(0);
	struct local_address *local;

	/* :: gets IPv4's clients as well, unless the socket has IPV6_V6ONLY, which cannot be seen from here. */
	if (same_address(&at->address, &any))
		return is_node_port(&any, at) || is_node_port(&any_ipv4, at);
	local = lookup_local_address(&at->address);
	if (!answers_on_loopback(&at->address) && (!local || local->kind != LOCAL_NODE_PORTS))
		return false;
	return is_node_port(&any, at);
}

/* Tells the agent who wanted what. */
static __always_inline void note_refusal(const struct socket_address *at)
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

static __always_inline int judge_bind(struct bpf_sock_addr *ctx, const struct socket_address *at)
{
	if (!at->port || !is_node_namespace(bpf_get_netns_cookie(ctx)) || !takes_node_port(at))
		return SOCKET_PROCEED;
	note_refusal(at);
	count(HOOK_SOCKET, VERDICT_DROP_NODE_PORT_TAKEN, 0);
	if (config.socket_lb_refuse)
		bpf_set_retval(-EADDRINUSE);
	return SOCKET_REFUSE;
}

SEC("cgroup/bind4")
int bind4(struct bpf_sock_addr *ctx)
{
	struct socket_address at = {};

	if (!read_call(ctx, false, &at))
		return SOCKET_PROCEED;
	at.address = ipv4_address(ctx->user_ip4);
	return judge_bind(ctx, &at);
}

SEC("cgroup/bind6")
int bind6(struct bpf_sock_addr *ctx)
{
	struct socket_address at = {};

	if (!read_call(ctx, false, &at))
		return SOCKET_PROCEED;
	read_ipv6(ctx, &at.address);
	return judge_bind(ctx, &at);
}

char _license[] SEC("license") = "Dual BSD/GPL";
