// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Socket load balancing: a socket that connects or sends to a service is given a backend, and sees the service's
 * address wherever it asks for its peer. Its packets then need no translation. */
#include "policy.h"
#include "socket.h"
#include "count.h"

static __always_inline struct service *lookup_socket_service(const struct transport_address *to, bool node_socket)
{
	/* A pod's loopback addresses are the pod's. */
	if (!node_socket && is_loopback_or_unspecified(&to->address))
		return NULL;
	return lookup_service_on_node(&to->address, to->port, to->protocol);
}

/* Returns 32 uniform bits. Datagrams of one unconnected socket to one service keep their backend while the list
 * stays the same. */
static __always_inline __u32 select_number(const struct transport_address *to, __u64 cookie, bool connects)
{
	if (connects)
		return bpf_get_prandom_u32();
	/* Fibonacci hashing: the high half of the product is well mixed. */
	return (__u32)((cookie * 0x9e3779b97f4a7c15ULL) >> 32) ^ to->address.word[3] * 0x85ebca6b;
}

static __always_inline int remember_service(__u64 cookie, const struct backend *backend,
					    const struct transport_address *to)
{
	struct socket_peer peer = {
		.cookie = cookie,
		.address = backend->address,
		.port = backend->port,
		.protocol = to->protocol,
	};

	return bpf_map_update_elem(&socket_peers, &peer, to, BPF_ANY);
}

/* Returns the address that the socket is bound to, all zero while it is not. */
static __always_inline struct address bound_address(struct bpf_sock_addr *call, const struct transport_address *to)
{
	struct bpf_sock *socket = call->sk;
	struct address address = {};

	if (is_ipv4(&to->address))
		return socket->src_ip4 ? ipv4_address(socket->src_ip4) : address;
	address.word[0] = socket->src_ip6[0];
	address.word[1] = socket->src_ip6[1];
	address.word[2] = socket->src_ip6[2];
	address.word[3] = socket->src_ip6[3];
	return address;
}

/* Returns how a socket counts as a client. `address` is the one that it is bound to, if any. While it has none, a
 * node's socket gets the primary address, and a pod's counts as a pod wherever the detector recognises pods. */
static __always_inline struct client socket_client(struct address *address, bool node_socket, bool is_ipv4)
{
	struct client client = { address, CLIENT_NODE, HOOK_SOCKET };
	bool known = !is_unspecified(address);
	const struct address *primary;

	if (node_socket) {
		primary = known ? NULL : primary_address(is_ipv4);
		if (primary)
			*address = *primary;
		return client;
	}
	if (known) {
		client.kind = kind_of_pod(address);
		return client;
	}
	if (is_ipv4)
		*address = ipv4_address(0);
	client.kind = recognises_pods(address) ? CLIENT_POD : CLIENT_OUTSIDE;
	return client;
}

/* Replaces `to`, the address of a call, by a backend's. Returns VERDICT_PASS where `to` is no service. */
static __always_inline enum verdict balance_socket(struct bpf_sock_addr *call, struct transport_address *to,
						   bool connects)
{
	__u64 namespace = bpf_get_netns_cookie(call), cookie;
	bool node_socket = is_node_namespace(namespace);
	struct address affine = { .word = { 0, 1, namespace >> 32, namespace } }, bound;
	struct decision decision;
	struct service *service;
	struct client client;

	if (!node_socket && !config.socket_lb_pods)
		return VERDICT_PASS;
	service = lookup_socket_service(to, node_socket);
	if (!service)
		return VERDICT_PASS;
	/* The packets of an excluded pod are translated at its interface instead. */
	if (!node_socket && bpf_map_lookup_elem(&socket_lb_off, &namespace))
		return VERDICT_PASS;
	bound = bound_address(call, to);
	/* Whether the service admits a pod, its packets say where the socket has no address yet. */
	if (!node_socket && (service->flags & SERVICE_SOURCE_RANGES) && is_unspecified(&bound))
		return VERDICT_PASS;
	client = socket_client(&bound, node_socket, is_ipv4(&to->address));
	cookie = bpf_get_socket_cookie(call);
	decision = judge(service, &client, &affine, select_number(to, cookie, connects));
	if (!decision.backend)
		return decision.verdict;
	if (remember_service(cookie, decision.backend, to) && to->protocol == IPPROTO_UDP)
		return VERDICT_DROP_FLOWS_FULL;
	to->address = decision.backend->address;
	to->port = decision.backend->port;
	return VERDICT_TRANSLATED;
}

/* Replaces the address of a backend that the socket was given by the service's address. */
static __always_inline enum verdict restore_service(struct bpf_sock_addr *call, struct transport_address *from)
{
	struct socket_peer peer = { .address = from->address, .port = from->port, .protocol = from->protocol };
	struct transport_address *asked;

	peer.cookie = bpf_get_socket_cookie(call);
	asked = bpf_map_lookup_elem(&socket_peers, &peer);
	if (!asked)
		return VERDICT_PASS;
	from->address = asked->address;
	from->port = asked->port;
	return VERDICT_TRANSLATED;
}

/* Counts the verdict and returns what the call gets: a refusal as if the backend's node had answered, or, where
 * packets would be dropped, the error that this would end in. */
static __always_inline int finish_call(enum verdict verdict, const struct transport_address *to)
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

enum call_kind {
	CALL_CONNECT,
	CALL_SEND,
	CALL_ASK_PEER, /* the call tells the application its peer's address */
};

static __always_inline int handle_call(struct bpf_sock_addr *call, int family, enum call_kind kind)
{
	struct transport_address address = {};
	enum verdict verdict;

	if (!read_call(call, family, &address))
		return SOCKET_PROCEED;
	verdict = kind == CALL_ASK_PEER ? restore_service(call, &address)
					: balance_socket(call, &address, kind == CALL_CONNECT);
	if (verdict == VERDICT_TRANSLATED)
		write_call(call, family, &address);
	return finish_call(verdict, &address);
}

SOCKET_PROGRAM(connect4, handle_call(call, 4, CALL_CONNECT))
SOCKET_PROGRAM(connect6, handle_call(call, 6, CALL_CONNECT))
SOCKET_PROGRAM(sendmsg4, handle_call(call, 4, CALL_SEND))
SOCKET_PROGRAM(sendmsg6, handle_call(call, 6, CALL_SEND))
SOCKET_PROGRAM(recvmsg4, handle_call(call, 4, CALL_ASK_PEER))
SOCKET_PROGRAM(recvmsg6, handle_call(call, 6, CALL_ASK_PEER))
SOCKET_PROGRAM(getpeername4, handle_call(call, 4, CALL_ASK_PEER))
SOCKET_PROGRAM(getpeername6, handle_call(call, 6, CALL_ASK_PEER))

char _license[] SEC("license") = "Dual BSD/GPL";
