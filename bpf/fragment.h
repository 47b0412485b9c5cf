/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Datagrams in pieces. Only the first piece has ports: where it is translated, they are kept for those that follow, of
 * which then the addresses are. A piece that overtakes the first has nothing to go by: where the first may be translated
 * it is held, and put into the device's queue again behind the first. */
#pragma once

#include "maps.h"
#include "packet.h"
#include "service.h"
#include "skb.h"

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

/* Has the first piece of a datagram not come yet? `known` is what is known of it, or NULL. */
static __always_inline bool is_awaited(const struct datagram_ports *known)
{
	return !known || known->state == DATAGRAM_AWAITED;
}

/* Keeps what a first piece is: an identification is used again by other connections of the two hosts. `packet` is as it
 * arrived. Returns negative where the map takes no more. */
static __always_inline long note_first_fragment(struct packet *packet, enum datagram_state state, __u64 now)
{
	struct datagram key = datagram_of(packet);
	struct datagram_ports *known = bpf_map_lookup_elem(&fragments, &key);
	struct datagram_ports ports = {
		.expires_ns = now + REASSEMBLY_NS,
		.source_port = packet->tuple.source_port,
		.destination_port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
		.state = state,
	};

	if (known && is_awaited(known) && known->expires_ns > now) {
		__u32 zero = 0;
		struct reunion *reunion = bpf_map_lookup_elem(&reunions, &zero);

		if (reunion) {
			reunion->piece.datagram = key;
			reunion->waiting = known->waiting;
			packet->awaited = true;
		}
	}
	return bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
}

/* May a datagram be a service's, or a reply of one, as far as addresses tell? `local` is what lives at its destination.
 * What the node's own stack sends comes in order. */
static __always_inline bool may_be_translated(enum hook hook, const struct packet *packet,
					      const struct local_address *local)
{
	if (hook != HOOK_FROM_UPLINK)
		return hook == HOOK_FROM_POD;
	return local || lookup_frontend(&packet->tuple.destination, 0, 0);
}

/* A first piece that is not translated: nothing is remembered of an earlier datagram with its identification. */
static __always_inline void note_plain_fragment(enum hook hook, struct packet *packet, const struct local_address *local,
					     __u64 now)
{
	struct datagram key = datagram_of(packet);

	if (may_be_translated(hook, packet, local))
		note_first_fragment(packet, DATAGRAM_PLAIN, now);
	else
		bpf_map_delete_elem(&fragments, &key);
}

/* What is known of a later piece's datagram, or NULL. */
static __always_inline struct datagram_ports *lookup_datagram(const struct packet *packet, __u64 now)
{
	struct datagram key = datagram_of(packet);
	struct datagram_ports *ports = bpf_map_lookup_elem(&fragments, &key);

	return ports && ports->expires_ns > now ? ports : NULL;
}

/* Holds a piece whose first one has not come; `known` are those before it, or NULL. Returns false where there is no room for
 * it. */
static __always_inline bool queue_fragment(context *ctx, const struct packet *packet, struct datagram_ports *known,
				       __u64 now)
{
	struct datagram_ports awaited = { .expires_ns = now + REASSEMBLY_NS, .waiting = 1 };
	__u32 zero = 0;
	struct reunion *reunion = bpf_map_lookup_elem(&reunions, &zero);

	if (!reunion || (known && known->waiting >= QUEUED_FRAGMENTS) || !copy_frame(ctx, &reunion->frame))
		return false;
	reunion->piece.datagram = datagram_of(packet);
	reunion->piece.number = known ? known->waiting : 0;
	if (bpf_map_update_elem(&queued_fragments, &reunion->piece, &reunion->frame, BPF_ANY))
		return false;
	if (known) {
		known->waiting++;
		return true;
	}
	return !bpf_map_update_elem(&fragments, &reunion->piece.datagram, &awaited, BPF_ANY);
}

/* The pieces that were held come once more by the same device, behind the first one, whose place the packet keeps.
 * Returns 0, or negative where the packet could not be made itself again. */
__noinline int reinject_fragments(struct __sk_buff *ctx)
{
	__u32 zero = 0;
	struct reunion *reunion = bpf_map_lookup_elem(&reunions, &zero);

	if (!reunion || !copy_frame(ctx, &reunion->frame))
		return 0;
	for (__u32 i = 0; i < QUEUED_FRAGMENTS && i < reunion->waiting; i++) {
		struct queued_fragment *piece;

		reunion->piece.number = i;
		piece = bpf_map_lookup_elem(&queued_fragments, &reunion->piece);
		if (!piece)
			continue;
		if (become_frame(ctx, piece))
			queue_copy(ctx);
		bpf_map_delete_elem(&queued_fragments, &reunion->piece);
	}
	return become_frame(ctx, &reunion->frame) ? 0 : -1;
}
