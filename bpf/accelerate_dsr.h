/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What XDP sends in DSR mode: packets of connections that are known, or that begin here. The order of dsr_send.h is
 * turned round, since nothing may have changed where a packet is left to from_uplink: that one refuses, and tells what
 * does not fit. What arrives with the option is for a backend of this node, and so from_uplink's too. */
#pragma once

#include "accelerate.h"
#include "dsr_send.h"

/* What a packet becomes that opens a connection with the backend that was selected. */
static __always_inline struct tuple backend_target(const struct packet *packet, const struct backend *backend)
{
	struct tuple to = packet->tuple;

	to.destination = backend->address;
	to.destination_port = backend->port;
	return to;
}

/* Does the backend's node take the option, and does the packet fit the path to it with `added` bytes? */
static __always_inline bool is_reachable(context *ctx, const struct packet *packet, const struct tuple *to, __u32 added)
{
	struct dsr_peer *peer = lookup_peer(&to->destination);

	return peer && peer->dispatch == DSR_OPTION && (!peer->mtu || routed_bytes(ctx, packet) + added <= peer->mtu);
}

/* Sends a packet with its new addresses and the option to its next hop. Without room in front of it, it passes. */
static __always_inline enum verdict send_told(context *ctx, struct packet *packet, const struct tuple *to, __u32 added,
					      const struct dsr_setup *dsr, const struct next_hop *hop)
{
	bool ipv4 = is_ipv4_packet(packet);
	enum verdict verdict;

	if (added && insert_behind_ip(ctx, ipv4, added))
		return VERDICT_PASS;
	packet->l4_offset += added;
	verdict = send_on(ctx, packet, to, hop);
	if (verdict != VERDICT_TO_NETWORK)
		return verdict;
	return added && write_option(ctx, ipv4, dsr) ? VERDICT_DROP_REWRITE : VERDICT_DSR;
}

static __always_inline enum verdict accelerate_dsr(context *ctx, const struct xdp_device *device, struct packet *packet)
{
	__u64 now = now_ns();
	struct flow *flow = lookup_flow(packet, now);
	bool opens = !flow || !(flow->flags & FLOW_FLAG_DSR);
	__u32 added = is_told(packet, opens) ? option_bytes(is_ipv4_packet(packet)) : 0;
	struct scratch *scratch = this_scratch();
	struct backend *backend;
	struct next_hop hop;
	struct tuple to;

	if (!scratch || (!opens && may_lack_checksum(ctx, packet)))
		return VERDICT_PASS;
	if (opens) {
		backend = lookup_backend(scratch->dsr.backend);
		if (!backend)
			return VERDICT_PASS;
		to = backend_target(packet, backend);
	} else {
		to = flow_target(flow, packet->tuple.protocol);
	}
	if (!is_reachable(ctx, packet, &to, added) || !find_next_hop(ctx, device, packet, &to, added, &hop))
		return VERDICT_PASS;
	if (opens ? !open_dsr(ctx, scratch, packet, now) : !follow_dsr(ctx, flow, packet, now))
		return VERDICT_PASS;
	name_frontend(&scratch->dsr, packet);
	return send_told(ctx, packet, &to, added, &scratch->dsr, &hop);
}
