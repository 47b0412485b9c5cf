/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets that arrive by a device: from a pod, or from the network.
 *
 * 1 parse the headers (packet.h); what has no ports goes to the slow path (slow_path.h)
 *   a pod's packet has to come from one of its addresses; another one goes to its link, or nowhere (sender.h)
 * 2 a known flow is refreshed and its packet translated (conntrack.h, rewrite.h)
 * 3 a packet to a frontend opens a flow: look up the service (service.h), let the traffic policy choose a list of
 *   backends (policy.h), select a backend (select.h), claim a source port by inserting the reply's entry (nat.h)
 * 4 a packet to a service's address, but to no port of it, is refused (no_service.h)
 * 5 any other packet keeps its addresses; it gets another source port if its replies would be taken for a flow's
 *   (balance.h)
 * 6 the packet is forwarded: into a pod, to the network, or to the node's own stack (route.h)
 * 7 the verdict is counted and becomes the hook's action, or an ICMP reply (finish.h, icmp_reply.h)
 */
#pragma once

#include "balance.h"
#include "dsr.h"
#include "remaining_steps.h"
#include "route.h"
#include "sender.h"

static __always_inline union step handle_ingress(context *ctx, enum hook hook)
{
	struct packet packet = {};
	struct cursor cursor;
	struct local_address *local = NULL;
	enum parse_result parsed;
	enum verdict verdict;

	/* A switch floods frames for other hosts. */
	if ((from_network(hook) && packet_type(ctx) != PACKET_HOST) || has_tag(ctx, true))
		return finish(ctx, hook, &packet, judge_frame(ctx, hook, &packet));
	cursor = read_headers(ctx);
	parsed = parse_packet(ctx, &cursor, &packet);
	if (parsed == PARSE_IP && !packet.has_ports)
		return (union step){ .next = NEXT_SLOW_PATH };
	if (parsed == PARSE_OTHER) {
		verdict = judge_frame(ctx, hook, &packet);
	} else if (parsed == PARSE_MALFORMED) {
		verdict = VERDICT_DROP_MALFORMED;
	} else if (has_other_source(ctx, hook, &packet)) {
		verdict = judge_other_source(ctx, &packet);
	} else if (config.dsr && from_network(hook) && has_dsr_option(ctx, &packet)) {
		return (union step){ .action = ACTION_DROP, .next = NEXT_RECEIVE_DSR };
	} else if (arrives_in_tunnel(ctx, hook, &packet)) {
		return (union step){ .action = ACTION_DROP, .next = NEXT_RECEIVE_FROM_TUNNEL };
	} else {
		verdict = balance_packet(ctx, hook, &packet, &local);
		if (verdict == VERDICT_DSR)
			return (union step){ .action = ACTION_DROP, .next = NEXT_SEND_DSR };
		if (verdict == VERDICT_PASS)
			verdict = forward(ctx, hook, &packet, local);
	}
	return finish(ctx, hook, &packet, verdict);
}
