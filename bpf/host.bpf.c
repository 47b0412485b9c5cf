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

__noinline int packet_to_uplink(struct __sk_buff *skb)
{
	struct cursor cursor = read_context(skb);
	struct endpoint *endpoint = NULL;
	struct packet packet = { .own = true };
	enum verdict verdict;

	if (parse_packet(skb, &cursor, skb->protocol, &packet) != PARSE_IP)
		return finish(skb, HOOK_TO_UPLINK, &packet, VERDICT_PASS);
	if (!packet.has_ports)
		return STEP_WITHOUT_PORTS;
	verdict = balance_node(skb, HOOK_TO_UPLINK, &packet, &endpoint);
	if (verdict == VERDICT_PASS)
		verdict = forward(skb, HOOK_TO_UPLINK, &packet, endpoint);
	return finish(skb, HOOK_TO_UPLINK, &packet, verdict);
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

char _license[] SEC("license") = "Dual BSD/GPL";
