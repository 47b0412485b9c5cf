/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets with ports that arrive: from a pod, or from the network. */
#pragma once

#include "balance.h"
#include "portless.h"
#include "route.h"

/* The part of a hook's program for packets with ports; what others need is STEP_WITHOUT_PORTS. */
static __always_inline int packet_arrives(struct __sk_buff *skb, enum hook hook)
{
	struct cursor cursor = read_context(skb);
	struct packet packet = {};
	struct local_address *local = NULL;
	enum parse_result parsed;
	enum verdict verdict;

	parsed = parse_packet(skb, &cursor, skb->protocol, &packet);
	if (parsed == PARSE_OTHER)
		return finish(skb, hook, &packet, VERDICT_PASS);
	if (parsed == PARSE_MALFORMED)
		return finish(skb, hook, &packet, VERDICT_DROP_MALFORMED);
	if (!packet.has_ports)
		return STEP_WITHOUT_PORTS;
	verdict = balance_packet(skb, hook, &packet, &local);
	if (verdict == VERDICT_PASS)
		verdict = forward(skb, hook, &packet, local);
	return finish(skb, hook, &packet, verdict);
}
