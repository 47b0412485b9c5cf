// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Socket load balancing: a socket that dials a service is given a backend when it connects (or sends), and sees the
 * service's address wherever it asks. Its packets then need no translation at all. */
#include "config.h"
#include "policy.h"
#include "verdict.h"

#define SOCKET_REFUSE 0
#define SOCKET_PROCEED 1
#define EPERM 1
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define MARK_TRACED 0x4b500001 /* of sockets of `kubypass trace`, which no live map shall notice */
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_SCTP 132

/* The address and port of a socket call, in the shape that the maps use. */
struct socket_address {
	struct address address;
	__be16 port;
	__u8 protocol;
	bool connect; /* not one datagram of an unconnected socket */
};

static __always_inline __u64 node_namespace(void)
{
	/* Before Linux 5.14 a program in user space cannot ask for its own: the node is in the initial namespace then. */
	return config.node_netns_cookie ? config.node_netns_cookie : bpf_get_netns_cookie(NULL);
}

static __always_inline struct service *lookup_socket_service(const struct socket_address *to, bool node_socket)
{
	struct service *service;
	struct endpoint *endpoint;

	/* A pod's loopback is its own. */
	if (!node_socket && is_loopback(&to->address))
		return NULL;
	service = lookup_frontend(&to->address, to->port, to->protocol);
	if (service)
		return service;
	/* NodePorts of this node only: another node's may be subject to that node's traffic policy. */
	if (is_loopback(&to->address) && config.localhost_node_ports & (is_ipv4(&to->address) ? 1 : 2))
		return lookup_node_port(&to->address, to->port, to->protocol);
	endpoint = lookup_endpoint(&to->address);
	if (!endpoint || endpoint->kind == ENDPOINT_POD)
		return NULL;
	service = lookup_node_port(&to->address, to->port, to->protocol);
	return service && node_port_answers(service, endpoint) ? service : NULL;
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

	if (node_socket)
		return (struct client){ known	  ? *bound
					: is_ipv4 ? config.node_ipv4
						  : config.node_ipv6,
					CLIENT_NODE, HOOK_SOCKET };
	if (known)
		return (struct client){ *bound, kind_of_pod(bound), HOOK_SOCKET };
	return (struct client){ {}, config.local_detector == DETECT_NONE ? CLIENT_OUTSIDE : CLIENT_POD, HOOK_SOCKET };
}

/* Finds the backend for a call to `to` and puts it there. Returns VERDICT_PASS where `to` is no service. */
static __always_inline enum verdict balance_socket(struct bpf_sock_addr *ctx, struct socket_address *to)
{
	__u64 namespace = bpf_get_netns_cookie(ctx), cookie;
	bool node_socket = namespace == node_namespace();
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

/* MPTCP (protocol 262) does not fit the key; it dials over TCP subflows, which come here themselves. */
static __always_inline bool read_call(struct bpf_sock_addr *ctx, bool connect, struct socket_address *to)
{
	__u32 protocol = ctx->protocol;

	if (!config.tracing && ctx->sk->mark == MARK_TRACED)
		return false;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return false;
	to->protocol = protocol;
	to->port = ctx->user_port;
	to->connect = connect;
	return true;
}

static __always_inline void read_ipv6(struct bpf_sock_addr *ctx, struct address *address)
{
	address->word[0] = ctx->user_ip6[0];
	address->word[1] = ctx->user_ip6[1];
	address->word[2] = ctx->user_ip6[2];
	address->word[3] = ctx->user_ip6[3];
}

static __always_inline void write_ipv6(struct bpf_sock_addr *ctx, const struct socket_address *address)
{
	ctx->user_ip6[0] = address->address.word[0];
	ctx->user_ip6[1] = address->address.word[1];
	ctx->user_ip6[2] = address->address.word[2];
	ctx->user_ip6[3] = address->address.word[3];
	ctx->user_port = address->port;
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
