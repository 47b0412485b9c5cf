/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Datagrams in pieces. Only the first piece has ports: where it is translated, they are kept for those that follow, of
 * which then the addresses are. A piece that comes before the first has nothing to go by: it is dropped where its
 * destination is a service's; elsewhere most belong to traffic that is not translated, and all pass as they are. A datagram
 * of a translated connection whose pieces change places is lost then, at the receiver and not here. */
#pragma once

#include "maps.h"
#include "packet.h"
#include "service.h"

#define REASSEMBLY_NS (60 * NS_PER_S) /* RFC 8200 section 4.5; for IPv4 Linux waits half of it */

static __always_inline struct datagram datagram_of(const struct packet *packet)
{
	return (struct datagram){
		.source = packet->tuple.source,
		.destination = packet->tuple.destination,
		.identification = packet->identification,
		.protocol = packet->ethertype == bpf_htons(ETH_P_IP) ? packet->tuple.protocol : 0,
	};
}

/* Keeps the ports of a first piece. Returns negative where the map takes no more. */
static __always_inline long keep_ports(const struct packet *packet, __u64 now)
{
	struct datagram key = datagram_of(packet);
	struct datagram_ports ports = {
		.expires_ns = now + REASSEMBLY_NS,
		.source_port = packet->tuple.source_port,
		.destination_port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
	};

	return bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
}

/* A first piece that is not translated: an identification is used again, by other connections of the two hosts. */
static __always_inline void forget_ports(const struct packet *packet)
{
	struct datagram key = datagram_of(packet);

	bpf_map_delete_elem(&fragments, &key);
}

/* Gives a later piece the ports of the first. Returns false where they are not known. */
static __always_inline bool recall_ports(struct packet *packet, __u64 now)
{
	struct datagram key = datagram_of(packet);
	struct datagram_ports *ports = bpf_map_lookup_elem(&fragments, &key);

	if (!ports || ports->expires_ns <= now)
		return false;
	packet->tuple.source_port = ports->source_port;
	packet->tuple.destination_port = ports->destination_port;
	packet->tuple.protocol = ports->protocol;
	return true;
}
