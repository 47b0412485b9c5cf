/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Packets to a service's address, but to no service: no service has the port, the protocol, or the address. */
#pragma once

#include "icmp_translate.h"
#include "policy.h"
#include "route.h"

/* Would the packet leave by the device that it came in by? The network has sent it here, and would again. */
static __always_inline bool leads_back(context *ctx, const struct packet *packet)
{
	struct bpf_fib_lookup fib = {};
	long result;

	fill_fib(&fib, ctx, &packet->tuple, is_ipv4_packet(packet));
	result = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	return (result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       fib.ifindex == packet_device(ctx);
}

/* Does the service's address answer echo requests of this hook's clients? */
static __always_inline bool answers_echo(context *ctx, enum hook hook, const struct packet *packet,
					 const struct service *address)
{
	return config.answer_ping && is_icmp(ctx, packet, ICMP_ECHO, ICMPV6_ECHO_REQUEST) &&
	       (!from_network(hook) || config.external_cluster_ip || !is_internal(address));
}

/* A ClusterIP exists for its services only. An external address may also be another machine's: a packet to a port
 * that no service has there passes, unless it would loop between router and node. */
static __always_inline enum verdict judge_no_service(context *ctx, enum hook hook, const struct packet *packet)
{
	const struct address *destination = &packet->tuple.destination;
	struct service *address = lookup_frontend(destination, 0, 0);

	if (!address)
		return in_networks(destination, config.service_networks, config.service_network_count)
			       ? VERDICT_DROP_NO_SERVICE
			       : VERDICT_PASS;
	if (answers_echo(ctx, hook, packet, address))
		return VERDICT_ANSWER_ECHO;
	if (!(address->flags & SERVICE_CLUSTER_IP))
		return from_network(hook) && leads_back(ctx, packet) ? VERDICT_DROP_LOOP : VERDICT_PASS;
	if (!packet->has_ports || is_icmp_protocol(packet->tuple.protocol) || packet->fragment || !config.reject)
		return VERDICT_DROP_NO_SERVICE;
	return VERDICT_REJECT_NO_SERVICE;
}
