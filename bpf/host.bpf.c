// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's uplink: NodePorts and everything else that comes from, or goes to, the network. */
#include "arrive.h"

__noinline int packet_from_uplink(struct __sk_buff *skb)
{
	return packet_arrives(skb, HOOK_FROM_UPLINK);
}

/* Every packet that arrives at the node. */
SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	return complete(skb, HOOK_FROM_UPLINK, packet_from_uplink(skb));
}

/* A packet with ports that the node's own stack sends. */
static __always_inline int packet_leaves(struct __sk_buff *skb, enum hook hook, struct packet *packet)
{
	struct local_address *local = NULL;
	enum verdict verdict;

	verdict = balance_node(skb, hook, packet, &local);
	if (verdict == VERDICT_PASS)
		verdict = forward(skb, hook, packet, local);
	return finish(skb, hook, packet, verdict);
}

__noinline int packet_to_uplink(struct __sk_buff *skb)
{
	struct cursor cursor = read_context(skb);
	struct packet packet = { .own = true };

	if (parse_packet(skb, &cursor, skb->protocol, &packet) != PARSE_IP)
		return finish(skb, HOOK_TO_UPLINK, &packet, VERDICT_PASS);
	if (!packet.has_ports)
		return STEP_WITHOUT_PORTS;
	return packet_leaves(skb, HOOK_TO_UPLINK, &packet);
}

/* Packets that the node's own stack sends out. Replies of a backend in the node's network need work, connections to
 * services whose socket was not asked, and ports that clash; what our own hooks have forwarded is left alone (and was
 * counted there). */
SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	if (is_forwarded(skb))
		return TC_ACT_OK;
	return complete(skb, HOOK_TO_UPLINK, packet_to_uplink(skb));
}

/* Sockets of TCP and UDP are asked when they connect; Linux has no hook for those of SCTP. */
static __always_inline bool may_be_sctp(struct __sk_buff *skb)
{
	struct cursor cursor = { (void *)(long)skb->data, (void *)(long)skb->data_end };
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		ipv4 = header_at(&cursor, ETH_HLEN, sizeof(*ipv4));
		return ipv4 && ipv4->protocol == IPPROTO_SCTP;
	}
	ipv6 = header_at(&cursor, ETH_HLEN, sizeof(*ipv6));
	return skb->protocol == bpf_htons(ETH_P_IPV6) && ipv6 &&
	       (ipv6->nexthdr == IPPROTO_SCTP || is_extension(ipv6->nexthdr));
}

__noinline int packet_to_self(struct __sk_buff *skb)
{
	struct cursor cursor = read_context(skb);
	struct packet packet = { .own = true };

	if (parse_packet(skb, &cursor, skb->protocol, &packet) != PARSE_IP || !packet.has_ports ||
	    packet.tuple.protocol != IPPROTO_SCTP)
		return TC_ACT_OK;
	return packet_leaves(skb, HOOK_TO_SELF, &packet);
}

/* What the node sends to an address of its own, on the loopback device: connections to its NodePorts and external addresses, and
 * replies of backends in its network. */
SEC("tc")
int to_self(struct __sk_buff *skb)
{
	if (!may_be_sctp(skb))
		return TC_ACT_OK;
	return complete(skb, HOOK_TO_SELF, packet_to_self(skb));
}

char _license[] SEC("license") = "Dual BSD/GPL";
