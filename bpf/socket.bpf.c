// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Socket load balancing: a socket that dials a service is given a backend when it connects (or sends), and sees the
 * service's address wherever it asks. Its packets then need no translation at all. */
#include "policy.h"
#include "socket.h"
#include "finish.h"

static __always_inline struct service *lookup_socket_service(const struct socket_address *to, bool node_socket)
{
	/* A pod's loopback is its own. */
	if (!node_socket && is_loopback(&to->address))
		return NULL;
	return lookup_dialled(&to->address, to->port, to->protocol);
}

/* Datagrams of one unconnected socket to one service keep their backend while the list stays the same. */
static __always_inline __u32 choose_randomly(const struct socket_address *to, __u64 cookie)
{
	if (to->connect)
		return bpf_get_prandom_u32();
	/* Fibonacci hashing: the high half of the product is well mixed. */
	return (__u32)((cookie * 0x9e3779b97f4a7c15ULL) >> 32) ^ to->address.word[3] * 0x85ebca6b;
}

static __always_inline int remember_service(__u64 cookie, const struct backend *backend,
					    const struct socket_address *to)
{
	struct socket_peer peer = {
		.cookie = cookie,
		.address = backend->address,
		.port = backend->port,
		.protocol = to->protocol,
	};
	struct socket_service service = { .address = to->address, .port = to->port };

	return bpf_map_update_elem(&socket_peers, &peer, &service, BPF_ANY);
}

/* The address that the socket is bound to; all zero while it is not. */
static __always_inline struct address bound_address(struct bpf_sock_addr *ctx, const struct socket_address *to)
{
	struct bpf_sock *socket = ctx->sk;
	struct address address = {};

	if (is_ipv4(&to->address))
		return socket->src_ip4 ? ipv4_address(socket->src_ip4) : address;
	address.word[0] = socket->src_ip6[0];
	address.word[1] = socket->src_ip6[1];
	address.word[2] = socket->src_ip6[2];
	address.word[3] = socket->src_ip6[3];
	return address;
}

/* How a socket counts as a client. Its address may not be chosen yet: a node's is then the primary one, and a pod
 * counts as one wherever pods can be told. */
static __always_inline struct client socket_client(const struct address *bound, bool node_socket, bool is_ipv4)
{
	bool known = !is_unspecified(bound);
	struct address any;

	if (node_socket)
		return (struct client){ known	  ? *bound
					: is_ipv4 ? config.node_ipv4
						  : config.node_ipv6,
					CLIENT_NODE, HOOK_SOCKET };
	if (known)
		return (struct client){ *bound, kind_of_pod(bound), HOOK_SOCKET };
	any = is_ipv4 ? ipv4_address(0) : *bound;
	return (struct client){ any, tells_pods(&any) ? CLIENT_POD : CLIENT_OUTSIDE, HOOK_SOCKET };
}

/* Finds the backend for a call to `to` and puts it there. Returns VERDICT_PASS where `to` is no service. */
static __always_inline enum verdict balance_socket(struct bpf_sock_addr *ctx, struct socket_address *to)
{
	__u64 namespace = bpf_get_netns_cookie(ctx), cookie;
	bool node_socket = is_node_namespace(namespace);
	struct address affine = { .word = { 0, 1, namespace >> 32, namespace } }, bound;
	struct decision decision;
	struct backend *backend = NULL;
	struct service *service;
	struct client client;
	enum verdict verdict;
	__u32 id = 0;

	if (!node_socket && !config.socket_lb_pods)
		return VERDICT_PASS;
	service = lookup_socket_service(to, node_socket);
	if (!service)
		return VERDICT_PASS;
	/* Its packets are translated at its interface instead. */
	if (!node_socket && bpf_map_lookup_elem(&socket_lb_off, &namespace))
		return VERDICT_PASS;
	bound = bound_address(ctx, to);
	/* Whether a pod's address is let in, its packets tell if the socket does not. */
	if (!node_socket && (service->flags & SERVICE_SOURCE_RANGES) && is_unspecified(&bound))
		return VERDICT_PASS;
	client = socket_client(&bound, node_socket, is_ipv4(&to->address));
	cookie = bpf_get_socket_cookie(ctx);
	verdict = judge(service, &client, &affine, choose_randomly(to, cookie), &decision, &backend, &id);
	if (!backend)
		return verdict;
	if (remember_service(cookie, backend, to) && to->protocol == IPPROTO_UDP)
		return VERDICT_DROP_FLOWS_FULL;
	to->address = backend->address;
	to->port = backend->port;
	return VERDICT_TRANSLATED;
}

/* Gives the service's address for a backend's that the socket was given. */
static __always_inline enum verdict restore_service(struct bpf_sock_addr *ctx, struct socket_address *from)
{
	struct socket_peer peer = { .address = from->address, .port = from->port, .protocol = from->protocol };
	struct socket_service *service;

	peer.cookie = bpf_get_socket_cookie(ctx);
	service = bpf_map_lookup_elem(&socket_peers, &peer);
	if (!service)
		return VERDICT_PASS;
	from->address = service->address;
	from->port = service->port;
	return VERDICT_TRANSLATED;
}

/* What the application gets: a refusal as if the backend's node had answered, and where packets would be dropped the
 * error that those would end in. */
static __always_inline int finish_call(enum verdict verdict, const struct socket_address *to)
{
	count(HOOK_SOCKET, verdict, 0);
	if (verdict < VERDICT_DROP)
		return SOCKET_PROCEED;
	if (config.socket_lb_refuse) {
		if (verdict > VERDICT_ANSWER)
			bpf_set_retval(-ECONNREFUSED);
		else
			bpf_set_retval(to->protocol == IPPROTO_UDP ? -EPERM : -ETIMEDOUT);
	}
	return SOCKET_REFUSE;
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, bool connect)
{
	struct socket_address to = {};
	enum verdict verdict;

	if (!read_call(ctx, connect, &to))
		return SOCKET_PROCEED;
	to.address = ipv4_address(ctx->user_ip4);
	verdict = balance_socket(ctx, &to);
	if (verdict == VERDICT_TRANSLATED) {
		ctx->user_ip4 = to.address.word[3];
		ctx->user_port = to.port;
	}
	return finish_call(verdict, &to);
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, bool connect)
{
	struct socket_address to = {};
	enum verdict verdict;

	if (!read_call(ctx, connect, &to))
		return SOCKET_PROCEED;
	read_ipv6(ctx, &to.address);
	verdict = balance_socket(ctx, &to);
	if (verdict == VERDICT_TRANSLATED)
		write_ipv6(ctx, &to);
	return finish_call(verdict, &to);
}

static __always_inline int reverse4(struct bpf_sock_addr *ctx)
{
	struct socket_address from = {};
	enum verdict verdict;

	if (!read_call(ctx, false, &from))
		return SOCKET_PROCEED;
	from.address = ipv4_address(ctx->user_ip4);
	verdict = restore_service(ctx, &from);
	if (verdict == VERDICT_TRANSLATED) {
		ctx->user_ip4 = from.address.word[3];
		ctx->user_port = from.port;
	}
	return finish_call(verdict, &from);
}

static __always_inline int reverse6(struct bpf_sock_addr *ctx)
{
	struct socket_address from = {};
	enum verdict verdict;

	if (!read_call(ctx, false, &from))
		return SOCKET_PROCEED;
	read_ipv6(ctx, &from.address);
	verdict = restore_service(ctx, &from);
	if (verdict == VERDICT_TRANSLATED)
		write_ipv6(ctx, &from);
	return finish_call(verdict, &from);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, true);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, true);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, false);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, false);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
