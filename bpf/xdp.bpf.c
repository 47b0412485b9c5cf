// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The program in the drivers of the node's uplinks. */
#include "accelerate_dsr.h"
#include "count.h"
#include "step.h"

/* Counts what ends here, and leaves the rest to from_uplink, which counts it. */
static __always_inline union step finish_frame(context *ctx, const struct packet *packet, enum verdict verdict)
{
	if (verdict == VERDICT_PASS)
		return (union step){ .action = ACTION_PASS };
	count(HOOK_XDP, verdict, packet_bytes(ctx));
	return (union step){ .action = verdict > VERDICT_DROP ? ACTION_DROP : packet->action };
}

__noinline __u64 handle_frame(context *ctx)
{
	struct xdp_device *device = lookup_receiver(ctx);
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};
	enum verdict verdict;

	if (!device || parse_packet(ctx, &cursor, &packet) != PARSE_IP || packet.fragment)
		return (union step){ .action = ACTION_PASS }.bits;
	if (!packet.has_ports)
		return (union step){ .next = NEXT_SLOW_PATH }.bits;
	if (config.dsr && extra_bytes(&packet)) /* perhaps another node's option */
		return (union step){ .action = ACTION_PASS }.bits;
	verdict = accelerate_packet(ctx, device, &packet);
	if (verdict == VERDICT_DSR)
		return (union step){ .action = ACTION_PASS, .next = NEXT_SEND_DSR }.bits;
	return finish_frame(ctx, &packet, verdict).bits;
}

__noinline __u64 handle_dsr_frame(context *ctx)
{
	struct xdp_device *device = lookup_receiver(ctx);
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};

	if (!config.dsr || !device || parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return (union step){ .action = ACTION_PASS }.bits;
	return finish_frame(ctx, &packet, accelerate_dsr(ctx, device, &packet)).bits;
}

__noinline __u64 handle_error_frame(context *ctx)
{
	struct xdp_device *device = lookup_receiver(ctx);
	struct cursor cursor = read_headers(ctx);
	struct packet packet = {};

	if (!device || parse_packet(ctx, &cursor, &packet) != PARSE_IP)
		return (union step){ .action = ACTION_PASS }.bits;
	return finish_frame(ctx, &packet, accelerate_error(ctx, device, &packet)).bits;
}

/* Handles packets of external clients to backends on other nodes, what these answer, and ICMP errors about both. A
 * frame may be in several buffers (Linux 5.18): its headers are in the first. */
SEC(CONTEXT_SECTION)
int xdp_uplink(context *ctx)
{
	union step step = { .bits = handle_frame(ctx) };

	if (step.next == NEXT_SLOW_PATH)
		step.bits = handle_error_frame(ctx);
	if (config.dsr && step.next == NEXT_SEND_DSR)
		step.bits = handle_dsr_frame(ctx);
	return step.action;
}

char _license[] SEC("license") = "Dual BSD/GPL";
