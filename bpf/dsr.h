/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* DSR (direct server return): a client outside keeps its address towards a backend on another node, and that node
 * answers it from the frontend. What names the frontend to it is an option of the IP header.
 *
 * The node that balances has both entries of the connection (conntrack.h), but sees one direction only. The option goes
 * on packets that begin a connection, on the first of one that this node does not know, and on every datagram: nothing
 * else repeats one that is lost. The backend's node opens the connection as if the client had sent to the frontend
 * there; another entry leads packets without the option to it.
 *
 * Where that is impossible, the connection is masqueraded as without DSR, and counted (enum dsr_refusal). */
#pragma once

#include "dsr_receive.h"
#include "dsr_send.h"
#include "tunnel.h"

/* Does what the first part has left to DSR. */
static __always_inline __u64 run_dsr(context *ctx, enum hook hook, __u64 first)
{
	union step step = { .bits = first };
	bool tunnelled = config.tunnel && step.next == NEXT_RECEIVE_FROM_TUNNEL;

	if (step.next == NEXT_SEND_DSR)
		return send_dsr(ctx, hook);
	if (tunnelled)
		step.bits = receive_from_tunnel(ctx, hook);
	return step.next == NEXT_RECEIVE_DSR ? receive_dsr(ctx, hook, tunnelled) : step.bits;
}
