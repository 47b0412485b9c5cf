/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets that the node's own stack sends: to the network, to a pod, or to an address of the node.
 *
 * 1 parse the headers (packet.h); what has no ports goes to the slow path (slow_path.h)
 * 2 the packet of a known flow is translated: a backend's reply gets its service's address back (balance.h)
 * 3 a connection to a service that no socket hook has translated gets a backend (balance.h)
 * 4 a packet that was given another destination is forwarded; all others continue as they are (route.h)
 */
#pragma once

#include "balance.h"
#include "remaining_steps.h"
#include "route.h"

/* A packet with ports. */
static __always_inline struct step send_packet(context *ctx, enum hook hook, struct packet *packet)
{
	struct local_address *local = NULL;
	enum verdict verdict;

	verdict = balance_node(ctx, hook, packet, &local);
	if (verdict == VERDICT_PASS)
		verdict = forward(ctx, hook, packet, local);
	return finish(ctx, hook, packet, verdict);
}

static __always_inline struct step handle_egress(context *ctx, enum hook hook)
{
	struct packet packet = { .from_node = true };
	struct cursor cursor = read_headers(ctx);

	if (has_tag(ctx, false) || parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return finish(ctx, hook, &packet, VERDICT_PASS);
	if (!packet.has_ports)
		return (struct step){ .next = NEXT_SLOW_PATH };
	return send_packet(ctx, hook, &packet);
}
