// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's side of a pod's veth. */
#include "arrive.h"

__noinline int packet_from_pod(struct __sk_buff *skb)
{
	return packet_arrives(skb, HOOK_FROM_POD);
}

/* Every packet that a pod sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return complete(skb, HOOK_FROM_POD, packet_from_pod(skb));
}

__noinline int packet_to_pod(struct __sk_buff *skb)
{
	struct cursor cursor = read_context(skb);
	struct local_address *local = NULL;
	struct packet packet = {};

	if (parse_packet(skb, &cursor, skb->protocol, &packet) != PARSE_IP)
		return finish(skb, HOOK_TO_POD, &packet, VERDICT_PASS);
	if (!packet.has_ports)
		return STEP_WITHOUT_PORTS;
	return finish(skb, HOOK_TO_POD, &packet, balance_node(skb, HOOK_TO_POD, &packet, &local));
}

/* Packets that the node's own stack sends to a pod. Replies of a backend in the node's network need work, and
 * ports that clash. */
SEC("tc")
int to_pod(struct __sk_buff *skb)
{
	if (is_forwarded(skb))
		return TC_ACT_OK;
	return complete(skb, HOOK_TO_POD, packet_to_pod(skb));
}

char _license[] SEC("license") = "Dual BSD/GPL";
