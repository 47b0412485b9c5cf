// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Socket load balancing: a socket that dials a service is given a backend when it connects (or sends), and sees the
 * service's address wherever it asks. Its packets then need no translation at all. */
#include "config.h"
#include "service.h"
#include "verdict.h"

#define SOCKET_REFUSE 0
#define SOCKET_PROCEED 1
#define ECONNREFUSED 111
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

static __always_inline bool is_node_socket(struct bpf_sock_addr *ctx)
{
	/* Before Linux 5.14 a program in user space cannot ask for its own: the node is in the initial namespace then. */
	__u64 node = config.node_netns_cookie ? config.node_netns_cookie : bpf_get_netns_cookie(NULL);

	return bpf_get_netns_cookie(ctx) == node;
}

static __always_inline struct service *lookup_socket_service(const struct socket_address *to, bool node_socket)
{
	struct service *service = lookup_frontend(&to->address, to->port, to->protocol);
	struct endpoint *endpoint;

	if (service)
		return service;
	/* NodePorts of this node only: another node's may be subject to that node's traffic policy. */
	if (!node_socket || !is_loopback(&to->address)) {
		endpoint = lookup_endpoint(&to->address);
		if (!endpoint || endpoint->kind != ENDPOINT_NODE)
			return NULL;
	}
	return lookup_node_port(&to->address, to->port, to->protocol);
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

/* Finds the backend for a call to `to` and puts it there. Returns VERDICT_PASS where `to` is no service. */
static __always_inline enum verdict balance_socket(struct bpf_sock_addr *ctx, struct socket_address *to)
{
	bool node_socket = is_node_socket(ctx);
	struct service *service;
	struct backend *backend;
	__u64 cookie;
	__u32 id;

	if (!node_socket && !config.socket_lb_pods)
		return VERDICT_PASS;
	service = lookup_socket_service(to, node_socket);
	if (!service)
		return VERDICT_PASS;
	cookie = bpf_get_socket_cookie(ctx);
	backend = select_backend(service, choose_randomly(to, cookie), &id);
	if (!backend)
		return VERDICT_DROP_NO_BACKEND;
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

static __always_inline int finish_call(enum verdict verdict)
{
	count(HOOK_SOCKET, verdict, 0);
	if (verdict < VERDICT_DROP)
		return SOCKET_PROCEED;
	if (config.socket_lb_refuse)
		bpf_set_retval(-ECONNREFUSED);
	return SOCKET_REFUSE;
}

/* MPTCP (protocol 262) does not fit the key; it dials over TCP subflows, which come here themselves. */
static __always_inline bool read_call(struct bpf_sock_addr *ctx, bool connect, struct socket_address *to)
{
	__u32 protocol = ctx->protocol;

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
	return finish_call(verdict);
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
	return finish_call(verdict);
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
	return finish_call(verdict);
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
	return finish_call(verdict);
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
