// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's uplinks and on its loopback device. */
#include "egress.h"
#include "ingress.h"

__noinline __u64 handle_from_uplink(context *ctx)
{
	return pack_step(handle_ingress(ctx, HOOK_FROM_UPLINK));
}

/* Handles every packet that arrives at the node: NodePorts, external addresses, and what is for its pods. */
SEC("tc")
int from_uplink(context *ctx)
{
	return run_remaining_steps(ctx, HOOK_FROM_UPLINK, handle_from_uplink(ctx));
}

__noinline __u64 handle_to_uplink(context *ctx)
{
	return pack_step(handle_egress(ctx, HOOK_TO_UPLINK));
}

/* Handles packets that the node's own stack sends to the network: replies of a backend in the node's network,
 * connections to services that no socket hook has seen, and connections whose source port clashes with a flow's.
 * Packets that our own hooks have forwarded pass: they were counted there. */
SEC("tc")
int to_uplink(context *ctx)
{
	if (take_forwarded_mark(ctx))
		return ACTION_PASS;
	return run_remaining_steps(ctx, HOOK_TO_UPLINK, handle_to_uplink(ctx));
}

/* TCP and UDP sockets are translated when they connect; Linux has no socket hook for SCTP. */
static __always_inline bool may_be_sctp(context *ctx)
{
	struct cursor cursor = readable_bytes(ctx);
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	if (packet_ethertype(ctx) == bpf_htons(ETH_P_IP)) {
		ipv4 = header_at(&cursor, L2_BYTES, sizeof(*ipv4));
		return ipv4 && ipv4->protocol == IPPROTO_SCTP;
	}
	ipv6 = header_at(&cursor, L2_BYTES, sizeof(*ipv6));
	return packet_ethertype(ctx) == bpf_htons(ETH_P_IPV6) && ipv6 &&
	       (ipv6->nexthdr == IPPROTO_SCTP || is_extension(ipv6->nexthdr));
}

__noinline __u64 handle_to_self(context *ctx)
{
	struct packet packet = { .from_node = true };
	struct cursor cursor = read_headers(ctx);

	if (parse_packet(ctx, &cursor, &packet) != PARSE_IP || !packet.has_ports ||
	    packet.tuple.protocol != IPPROTO_SCTP)
		return pack_step((struct step){ .action = ACTION_PASS });
	return pack_step(send_packet(ctx, HOOK_TO_SELF, &packet));
}

/* Handles SCTP that the node sends to one of its own addresses, on the loopback device: connections to its NodePorts
 * and external addresses, and replies of backends in its network. */
SEC("tc")
int to_self(context *ctx)
{
	if (!may_be_sctp(ctx))
		return ACTION_PASS;
	return run_remaining_steps(ctx, HOOK_TO_SELF, handle_to_self(ctx));
}

char _license[] SEC("license") = "Dual BSD/GPL";
