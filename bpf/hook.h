/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a hook knows of its packets. Nothing else compares hooks: a new one is entered here. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "verdict.h"

/* The packet comes from a pod's interface. */
static __always_inline bool sent_by_pod(enum hook hook)
{
	return hook == HOOK_FROM_POD;
}

/* The packet comes from the network. */
static __always_inline bool from_network(enum hook hook)
{
	return (hook == HOOK_FROM_UPLINK) | (hook == HOOK_XDP); /* "||" costs each program 150 bytes of stack */
}

/* The packet arrives by a device: an answer to it leaves by that device. */
static __always_inline bool is_ingress(enum hook hook)
{
	return sent_by_pod(hook) || from_network(hook);
}

/* The node's own stack sends the packet, to the network. */
static __always_inline bool leaves_node(enum hook hook)
{
	return hook == HOOK_TO_UPLINK;
}

/* The node's own stack sends the packet, to a pod. */
static __always_inline bool enters_pod(enum hook hook)
{
	return hook == HOOK_TO_POD;
}

/* The node's own stack sends the packet to an address of the node, by the loopback device. */
static __always_inline bool stays_on_node(enum hook hook)
{
	return hook == HOOK_TO_SELF;
}

/* The node's own stack sends the packet. */
static __always_inline bool sent_by_node(enum hook hook)
{
	return leaves_node(hook) || enters_pod(hook) || stays_on_node(hook);
}
