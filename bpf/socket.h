/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The seam between the socket hooks and struct bpf_sock_addr: whose socket it is, and the address in its call. */
#pragma once

#include <linux/errno.h>
#include <linux/in.h>

#include "address.h"
#include "config.h"

#define SOCKET_REFUSE 0
#define SOCKET_PROCEED 1

/* Defines the program of a hook, which returns `result`, an expression of `call`. */
#define SOCKET_PROGRAM(hook, result)                                                                                   \
	SEC("cgroup/" #hook)                                                                                           \
	int hook(struct bpf_sock_addr *call)                                                                           \
	{                                                                                                              \
		return result;                                                                                         \
	}

/* Is the network namespace with this cookie the node's own? */
static __always_inline bool is_node_namespace(__u64 cookie)
{
	/* Before Linux 5.14 a program in user space cannot ask for its own: the node is in the initial namespace
	 * then. */
	return cookie == (config.node_netns_cookie ? config.node_netns_cookie : bpf_get_netns_cookie(NULL));
}

/* Reads the address of a call of this family (4 or 6). MPTCP (protocol 262) does not fit the key; its TCP subflows have
 * calls of their own. Returns false where the call is not ours to change. */
static __always_inline bool read_call(struct bpf_sock_addr *call, int family, struct transport_address *to)
{
	__u32 protocol = call->protocol;

	if (!config.tracing && call->sk->mark == MARK_TRACED)
		return false;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return false;
	to->protocol = protocol;
	to->port = call->user_port;
	if (family == 4) {
		to->address = ipv4_address(call->user_ip4);
		return true;
	}
	to->address.word[0] = call->user_ip6[0];
	to->address.word[1] = call->user_ip6[1];
	to->address.word[2] = call->user_ip6[2];
	to->address.word[3] = call->user_ip6[3];
	return true;
}

static __always_inline void write_call(struct bpf_sock_addr *call, int family, const struct transport_address *to)
{
	call->user_port = to->port;
	if (family == 4) {
		call->user_ip4 = to->address.word[3];
		return;
	}
	call->user_ip6[0] = to->address.word[0];
	call->user_ip6[1] = to->address.word[1];
	call->user_ip6[2] = to->address.word[2];
	call->user_ip6[3] = to->address.word[3];
}
