// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Programs on the node's uplink: NodePorts and everything else that comes from, or goes to, the network. */
#include "balance.h"
#include "route.h"

/* Every packet that arrives at the node. */
SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	struct cursor cursor = read_context(skb);
	struct packet packet = {};
	struct endpoint *endpoint = NULL;
	enum parse_result parsed;
	enum verdict verdict;

	parsed = parse_packet(&cursor, skb->protocol, &packet);
	if (parsed == PARSE_OTHER)
		return finish(skb, HOOK_FROM_UPLINK, &packet, VERDICT_PASS);
	if (parsed == PARSE_MALFORMED)
		return finish(skb, HOOK_FROM_UPLINK, &packet, VERDICT_DROP_MALFORMED);
	verdict = balance_packet(skb, HOOK_FROM_UPLINK, &packet, &endpoint);
	if (verdict != VERDICT_PASS)
		return finish(skb, HOOK_FROM_UPLINK, &packet, verdict);
	if (endpoint && endpoint->kind == ENDPOINT_POD)
		verdict = forward_to_pod(skb, &packet, endpoint);
	else if (!endpoint && packet.translated)
		verdict = forward_to_network(skb, &packet);
	return finish(skb, HOOK_FROM_UPLINK, &packet, verdict);
}

/* The node's route was chosen for the service's address; the backend's may be another. */
static __always_inline enum verdict forward_own(context *ctx, struct packet *packet, const struct endpoint *endpoint)
{
	if (!endpoint)
		return forward_to_network(ctx, packet);
	return endpoint->kind == ENDPOINT_POD ? forward_to_pod(ctx, packet, endpoint) : VERDICT_DROP_NO_ROUTE;
}

/* Packets that the node's own stack sends out. Replies of a backend in the node's network need work, connections to
 * services whose socket was not asked, and ports that clash; what our own hooks have forwarded is left alone (and was
 * counted there). */
SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	struct endpoint *endpoint = NULL;
	struct packet packet = { .own = true };
	struct cursor cursor;
	enum verdict verdict;

	if (skb->mark == MARK_FORWARDED) {
		skb->mark = 0;
		return TC_ACT_OK;
	}
	cursor = read_context(skb);
	if (parse_packet(&cursor, skb->protocol, &packet) != PARSE_IP)
		return finish(skb, HOOK_TO_UPLINK, &packet, VERDICT_PASS);
	verdict = balance_node(skb, HOOK_TO_UPLINK, &packet, &endpoint);
	if (verdict == VERDICT_PASS && packet.moved)
		verdict = forward_own(skb, &packet, endpoint);
	return finish(skb, HOOK_TO_UPLINK, &packet, verdict);
}

char _license[] SEC("license") = "Dual BSD/GPL";
