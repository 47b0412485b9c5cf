/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Tracks fragmented datagrams. Only the first fragment carries ports: they are remembered for the later ones, whose
 * addresses are then translated. A fragment that overtakes a first one that may be translated is queued, and
 * reinjected after it. */
#pragma once

#include "hook.h"
#include "maps.h"
#include "packet.h"
#include "service.h"

#define REASSEMBLY_NS (60 * NS_PER_S) /* RFC 8200 section 4.5; for IPv4, Linux waits half as long */

static __always_inline struct datagram datagram_of(const struct packet *packet)
{
	return (struct datagram){
		.source = packet->tuple.source,
		.destination = packet->tuple.destination,
		.identification = packet->identification,
		.protocol = is_ipv4_packet(packet) ? packet->tuple.protocol : 0,
	};
}

/* Has the first fragment not come yet? `known` is the entry of its datagram, or NULL. */
static __always_inline bool is_awaited(const struct datagram_ports *known)
{
	return !known || known->state == DATAGRAM_AWAITED;
}

/* Remembers a first fragment: its identification may belong to an earlier datagram of the two hosts. `packet` is as
 * it arrived. Returns negative where the map is full. */
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
		struct scratch *scratch = this_scratch();

		if (scratch) {
			scratch->reinjection.position.datagram = key;
			scratch->reinjection.waiting = known->waiting;
			packet->awaited = true;
		}
	}
	return bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
}

/* May a datagram belong to a service, or be a reply of one, as far as addresses tell? `local` is the entry of its
 * destination, or NULL. The node's own stack sends fragments in order. */
static __always_inline bool may_be_translated(enum hook hook, const struct packet *packet,
					      const struct local_address *local)
{
	if (!from_network(hook))
		return sent_by_pod(hook);
	return local || lookup_frontend(&packet->tuple.destination, 0, 0);
}

/* A first fragment that is not translated: what is remembered of an earlier datagram with its identification goes. */
static __always_inline void note_plain_fragment(enum hook hook, struct packet *packet,
						const struct local_address *local, __u64 now)
{
	struct datagram key = datagram_of(packet);

	if (may_be_translated(hook, packet, local))
		note_first_fragment(packet, DATAGRAM_PLAIN, now);
	else
		bpf_map_delete_elem(&fragments, &key);
}

/* Returns the live entry of a later fragment's datagram, or NULL. */
static __always_inline struct datagram_ports *lookup_datagram(const struct packet *packet, __u64 now)
{
	struct datagram key = datagram_of(packet);
	struct datagram_ports *ports = bpf_map_lookup_elem(&fragments, &key);

	return ports && ports->expires_ns > now ? ports : NULL;
}

/* Queues a fragment whose first one has not come; `known` is the entry of its datagram, or NULL. Returns false where
 * there is no room for it. */
static __always_inline bool queue_fragment(context *ctx, const struct packet *packet, struct datagram_ports *known,
					   __u64 now)
{
	struct datagram_ports awaited = { .expires_ns = now + REASSEMBLY_NS, .waiting = 1 };
	struct scratch *scratch = this_scratch();
	struct reinjection *queued;

	if (!scratch || (known && known->waiting >= QUEUED_FRAGMENTS))
		return false;
	queued = &scratch->reinjection;
	queued->frame.length = copy_packet(ctx, queued->frame.bytes, QUEUED_FRAGMENT_BYTES);
	if (!queued->frame.length)
		return false;
	queued->position.datagram = datagram_of(packet);
	queued->position.number = known ? known->waiting : 0;
	if (bpf_map_update_elem(&queued_fragments, &queued->position, &queued->frame, BPF_ANY))
		return false;
	if (known) {
		known->waiting++;
		return true;
	}
	return !bpf_map_update_elem(&fragments, &queued->position.datagram, &awaited, BPF_ANY);
}

/* Has the queued fragments arrive at the same device again, after the first one: the packet becomes each of them in
 * turn, and then itself again. `prepended` bytes of Ethernet header, which the device's packets do not have, are in
 * front of it. Returns 0, or negative where it could not become itself. */
__noinline int reinject_fragments(context *ctx, __u32 prepended)
{
	struct scratch *scratch = this_scratch();
	struct reinjection *first;

	if (!scratch)
		return 0;
	first = &scratch->reinjection;
	first->frame.length = copy_packet(ctx, first->frame.bytes, QUEUED_FRAGMENT_BYTES);
	if (!first->frame.length)
		return 0;
	for (__u32 i = 0; i < QUEUED_FRAGMENTS && i < first->waiting; i++) {
		struct queued_fragment *next;

		first->position.number = i;
		next = bpf_map_lookup_elem(&queued_fragments, &first->position);
		if (!next)
			continue;
		if (!replace_packet(ctx, prepended, next->bytes, next->length, QUEUED_FRAGMENT_BYTES))
			queue_copy(ctx);
		bpf_map_delete_elem(&queued_fragments, &first->position);
	}
	return replace_packet(ctx, 0, first->frame.bytes, first->frame.length, QUEUED_FRAGMENT_BYTES) ? -1 : 0;
}
