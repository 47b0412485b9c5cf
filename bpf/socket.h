/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What all socket hooks share: whose socket it is, and the address in its call. */
#pragma once

#include "address.h"
#include "config.h"

#define SOCKET_REFUSE 0
#define SOCKET_PROCEED 1
#define EPERM 1
#define EADDRINUSE 98
#define ETIMEDOUT 110
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

/* Is the network namespace with this cookie the node's own? */
static __always_inline bool is_node_namespace(__u64 cookie)
{
	/* Before Linux 5.14 a program in user space cannot ask for its own: the node is in the initial namespace then. */
	return cookie == (config.node_netns_cookie ? config.node_netns_cookie : bpf_get_netns_cookie(NULL));
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
