/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a segment changes of its connection. The receiver of a segment checks its numbers (RFC 9293 section 3.10.7.4,
 * RFC 5961); one that it would not take changes nothing here either, and is sent on: the receiver answers it with
 * what the true sender needs. Each direction remembers where its data ends and what it has acknowledged, so the two
 * directions of a connection prove each other right. */
#pragma once

#include "packet.h"

#define NEAR_BYTES (1U << 20) /* how far a segment may be from those before it, of which some were lost on their way */
#define FIRST_BYTES (1U << 14) /* what a server may send before the client has acknowledged its SYN */

static __always_inline bool is_new_connection(const struct packet *packet)
{
	return packet->tuple.protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* Returns the number after the segment's last one. SYN and FIN have a number each. */
static __always_inline __u32 segment_end(context *ctx, const struct packet *packet)
{
	__u32 bytes = packet->l4_bytes == L4_BYTES_UNKNOWN ? packet_bytes(ctx) - packet->l4_offset : packet->l4_bytes;

	return packet->sequence + bytes - packet->l4_header_bytes + !!(packet->tcp_flags & TCP_SYN) +
	       (packet->tcp_flags & TCP_FIN);
}

static __always_inline bool is_near(__u32 a, __u32 b)
{
	return a - b + NEAR_BYTES <= 2 * NEAR_BYTES;
}

/* Is `number` after `other`, modulo 2^32? */
static __always_inline bool is_after(__u32 number, __u32 other)
{
	return (__s32)(number - other) > 0;
}

static __always_inline void note_numbers(struct flow *flow, const struct packet *packet, __u32 end)
{
	flow->end = end;
	flow->acknowledged = packet->acknowledgment;
	flow->flags |= FLOW_FLAG_NUMBERED;
}

/* The numbers of a segment that opens an entry. Only a SYN does so at a connection's beginning. */
static __always_inline void begin_numbers(context *ctx, struct flow *flow, const struct packet *packet)
{
	note_numbers(flow, packet, segment_end(ctx, packet));
	if (packet->tcp_flags & TCP_SYN) {
		flow->flags &= ~FLOW_FLAG_NUMBERED;
		flow->acknowledged = 0; /* a SYN may have anything there */
	}
}

/* Takes in the numbers of a segment that is near those before it; returns whether it is. */
static __always_inline bool follow_numbers(struct flow *flow, const struct packet *packet, __u32 end)
{
	if (!(flow->flags & FLOW_FLAG_NUMBERED) || !is_near(packet->sequence, flow->end) ||
	    !is_near(packet->acknowledgment, flow->acknowledged))
		return false;
	if (is_after(end, flow->end))
		flow->end = end;
	if (is_after(packet->acknowledgment, flow->acknowledged))
		flow->acknowledged = packet->acknowledgment;
	return true;
}

/* Does the segment acknowledge what the other direction began with? Nobody can who has not seen that. */
static __always_inline bool acknowledges_beginning(const struct flow *partner, const struct packet *packet)
{
	bool known = (partner->flags & FLOW_FLAG_NUMBERED) || partner->direction == FLOW_FORWARD;

	return known && (packet->tcp_flags & TCP_ACK) && partner->end - packet->acknowledgment <= FIRST_BYTES;
}

/* Would the receiver take the RST? Its number is exactly the next one (RFC 5961 section 3.2): what the receiver has
 * acknowledged, or will once it has the data on its way. The RST to an unanswered SYN acknowledges that; one after the
 * answer to it follows that answer. */
static __always_inline bool is_valid_reset(const struct flow *flow, const struct flow *partner,
					   const struct packet *packet)
{
	bool answered = partner->direction == FLOW_FORWARD || partner->state != FLOW_NEW;

	if ((partner->flags & FLOW_FLAG_NUMBERED) && answered)
		return packet->sequence == partner->acknowledged ||
		       ((flow->flags & FLOW_FLAG_NUMBERED) && packet->sequence == flow->end &&
			is_near(flow->end, partner->acknowledged));
	if (partner->direction != FLOW_FORWARD || partner->state != FLOW_NEW)
		return false;
	return ((packet->tcp_flags & TCP_ACK) && packet->acknowledgment == partner->end) ||
	       (flow->state == FLOW_ESTABLISHED && (flow->flags & FLOW_FLAG_NUMBERED) && packet->sequence == flow->end);
}

/* A server's answer to a SYN. Until the client acknowledges one, the last one counts that acknowledges the SYN which
 * came first; where none does, the last one of all: then the server has seen another SYN only. */
static __always_inline void judge_syn_ack(struct flow *flow, const struct flow *partner, const struct packet *packet,
					  __u32 end)
{
	bool answers = acknowledges_beginning(partner, packet);

	if (partner->state != FLOW_NEW || (flow->state != FLOW_NEW && !answers))
		return;
	note_numbers(flow, packet, end);
	if (answers)
		flow->state = FLOW_ESTABLISHED;
}

/* Does the receiver take a segment without SYN and RST, as far as is known? `near`: its numbers were taken in. Those
 * that are not near the ones before may still be what the other direction expects. Where that has shown no numbers
 * yet, nothing proves one right: the entries come from an earlier version. */
static __always_inline bool is_taken(struct flow *flow, struct flow *partner, const struct packet *packet, bool near)
{
	if (flow->state == FLOW_NEW) {
		if (!acknowledges_beginning(partner, packet))
			return false;
		flow->state = FLOW_ESTABLISHED;
		if (flow->direction == FLOW_FORWARD)
			partner->state = FLOW_ESTABLISHED;
		return true;
	}
	if (near || !(partner->flags & FLOW_FLAG_NUMBERED))
		return true;
	return is_near(packet->sequence, partner->acknowledged) && is_near(packet->acknowledgment, partner->end);
}

/* Both directions have ended, and one end is acknowledged: a FIN that its receiver does not take never is. */
static __always_inline bool is_closed(const struct flow *flow, const struct flow *partner)
{
	return flow->state == FLOW_CLOSING && partner->state == FLOW_CLOSING &&
	       (!is_after(flow->end, partner->acknowledged) || !is_after(partner->end, flow->acknowledged));
}

/* May the segment change its connection's state? Most cannot, and cost no look at the other direction; nor does an
 * answer to a SYN that is repeated. `near`: the segment's numbers were taken in. */
static __always_inline bool may_change_state(const struct flow *flow, const struct packet *packet, bool near, __u32 end)
{
	if (is_new_connection(packet) ||
	    ((packet->tcp_flags & (TCP_SYN | TCP_RST | TCP_FIN)) == TCP_SYN && flow->state == FLOW_ESTABLISHED &&
	     end == flow->end && packet->acknowledgment == flow->acknowledged))
		return false;
	return !near || (packet->tcp_flags & TCP_FIN) || flow->state == FLOW_NEW || flow->state == FLOW_CLOSING;
}

/* Gives the connection the state that the segment brings it to. `known_end` is the flow's end before the segment,
 * `near` tells whether its numbers were taken in. Returns false where the receiver would not take it. */
static __always_inline bool judge_segment(struct flow *flow, struct flow *partner, const struct packet *packet,
					  __u32 end, __u32 known_end, bool near)
{
	if (packet->tcp_flags & TCP_RST) {
		if (!is_valid_reset(flow, partner, packet))
			return false;
		flow->state = FLOW_CLOSED;
		partner->state = FLOW_CLOSED;
		return true;
	}
	if (packet->tcp_flags & TCP_SYN) {
		if (!(packet->tcp_flags & TCP_ACK) || flow->direction == FLOW_FORWARD)
			return false;
		judge_syn_ack(flow, partner, packet, end);
		return true;
	}
	if (!is_taken(flow, partner, packet, near))
		return !(packet->tcp_flags & TCP_FIN);
	if (!near)
		note_numbers(flow, packet, end);
	if ((packet->tcp_flags & TCP_FIN) && (partner->flags & FLOW_FLAG_NUMBERED) && flow->state != FLOW_CLOSED &&
	    (!near || is_after(end, known_end)))
		flow->state = FLOW_CLOSING;
	if (is_closed(flow, partner)) {
		flow->state = FLOW_CLOSED;
		partner->state = FLOW_CLOSED;
	}
	return true;
}
