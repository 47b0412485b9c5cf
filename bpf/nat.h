/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Opens a translated connection: DNAT to a backend, and SNAT where the reply would not return to this node.
 * Inserting the reply's entry allocates the source port: there is no list of free ports and no lock. */
#pragma once

#include "conntrack.h"
#include "rewrite.h"
#include "snat_source.h"

#define SNAT_ATTEMPTS 8
#define SNAT_PORTS_AN_ATTEMPT 32
#define SNAT_PAUSE_NS 10000000ULL /* after a failure */
#define OPENING_NS (REFRESH_NS + REFRESH_NS / 4) /* how long an attempt to connect has its port for itself */

/* Does a socket have the port already? A socket of the node would take the reply for its own. A socket of the
 * backend may have a direct connection to the client: that connection has no entry, and its packets would be taken
 * for replies. */
static __always_inline bool socket_has_port(context *ctx, struct nat_setup *nat)
{
	bool of_node = nat->netns_to_check == (__u32)BPF_F_CURRENT_NETNS, found;
	bool tcp = nat->reply_key.protocol == IPPROTO_TCP;
	struct bpf_sock_tuple *sockets = &nat->sockets;
	__u32 size = sizeof(sockets->ipv6);
	struct bpf_sock *socket;

	nat->received = of_node ? nat->reply_key : reversed(&nat->reply_key);
	if (is_ipv4(&nat->received.source)) {
		sockets->ipv4.saddr = nat->received.source.word[3];
		sockets->ipv4.daddr = nat->received.destination.word[3];
		sockets->ipv4.sport = nat->received.source_port;
		sockets->ipv4.dport = nat->received.destination_port;
		size = sizeof(sockets->ipv4);
	}
	if (!tcp && !of_node)
		return false; /* a server has one socket for all datagrams */
	socket = tcp ? bpf_skc_lookup_tcp(ctx, sockets, size, nat->netns_to_check, 0)
		     : bpf_sk_lookup_udp(ctx, sockets, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	/* A listening server has no connection yet. */
	found = of_node || socket->state != BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return found;
}

/* Has the entry expired? Where no port is free, an attempt to connect that has not got on for a while gives way: it may
 * be one of a flood. */
static __always_inline bool gives_way(const struct flow *holder, const struct nat_setup *nat)
{
	return holder->expires_ns <= nat->now || ((holder->flags & FLOW_FLAG_OPENING) && nat->crowded &&
						  holder->expires_ns + OPENING_NS <= nat->reply.expires_ns);
}

/* Does the client itself use its port again? */
static __always_inline bool is_same_client(const struct flow *holder, const struct flow *reply)
{
	return holder->direction == FLOW_REPLY && holder->destination_port == reply->destination_port &&
	       holder->source_port == reply->source_port && same_address(&holder->destination, &reply->destination) &&
	       same_address(&holder->source, &reply->source);
}

/* Inserts the reply's entry unless another connection has its key: one that moves to `flows` meanwhile is there before
 * it expires here. Of two CPUs that find the same expired entry, one removes it and one inserts its own. */
static __always_inline bool claim_reply(struct nat_setup *nat)
{
	struct flow *holder = bpf_map_lookup_elem(&transient_flows, &nat->reply_key);
	bool expired = holder && gives_way(holder, nat);

	if (!holder || expired)
		holder = nat->reply_key.protocol == IPPROTO_TCP ? bpf_map_lookup_elem(&flows, &nat->reply_key) : NULL;
	if (holder && !gives_way(holder, nat) && !is_same_client(holder, &nat->reply))
		return false;
	if (holder || expired) {
		bpf_map_delete_elem(&transient_flows, &nat->reply_key);
		bpf_map_delete_elem(&flows, &nat->reply_key);
	}
	note_transient(&nat->reply_key, &nat->reply);
	return !bpf_map_update_elem(&transient_flows, &nat->reply_key, &nat->reply, BPF_NOEXIST);
}

/* Counts the ports that replaced clients' own. CPUs may skip or repeat a number, which costs another search. */
static __u32 ports_picked;

/* Returns the port with this number among those that may replace clients' own; every number is valid. */
static __always_inline __be16 snat_port(__u32 number)
{
	__u32 port;

	number %= config.snat_ports + config.snat_extra_ports;
	port = number < config.snat_ports ? config.snat_port_first + number
					  : config.snat_extra_first + number - config.snat_ports;
	return bpf_htons(port);
}

/* Gives the reply's key a port that looks free. In turn, the port that was closed longest ago comes first: a random
 * one meets the backend's TIME_WAIT sockets, whose timestamps then make it ignore the SYN. Where long-lived
 * connections have a whole range of ports, random ones are tried. */
static __always_inline bool pick_port(struct nat_setup *nat, bool in_turn)
{
	for (int i = 0; i < SNAT_PORTS_AN_ATTEMPT; i++) {
		struct flow *holder;

		nat->reply_key.destination_port = snat_port(in_turn ? ports_picked++ : bpf_get_prandom_u32());
		holder = find_flow(&nat->reply_key, nat->now, true);
		if (!holder || gives_way(holder, nat))
			return true;
	}
	return false;
}

/* Returns the record of the backend's earlier failures, or NULL. */
static __always_inline struct snat_failure *lookup_failure(struct nat_setup *nat)
{
	nat->destination.address = nat->reply_key.source;
	nat->destination.port = nat->reply_key.source_port;
	nat->destination.protocol = nat->reply_key.protocol;
	return bpf_map_lookup_elem(&snat_failures, &nat->destination);
}

/* In a flood, not every packet may search everywhere: shortly after a failure, two attempts have to do. */
static __always_inline void limit_attempts(struct nat_setup *nat)
{
	struct snat_failure *failure = lookup_failure(nat);

	if (failure && nat->now - failure->last_ns < SNAT_PAUSE_NS)
		nat->attempts = 2;
}

/* For `kubypass status`, which names the backends that need more ports or peers. */
static __always_inline void count_failure(struct nat_setup *nat)
{
	struct snat_failure *failure = lookup_failure(nat);

	if (failure) {
		__sync_fetch_and_add(&failure->connections, 1);
		failure->last_ns = nat->now;
		return;
	}
	nat->failure = (struct snat_failure){ .connections = 1, .last_ns = nat->now };
	bpf_map_update_elem(&snat_failures, &nat->destination, &nat->failure, BPF_NOEXIST);
}

/* Finds a source port with which the reply in `scratch` has a key that no other connection has: the client's own, or
 * another. Returns it, or 0 where there is none. The function is global, so that the verifier goes through it once;
 * it works in the map, because its stack and its callers' are one. */
__noinline int claim_source_port(context *ctx)
{
	struct scratch *scratch = this_scratch();
	struct nat_setup *nat;

	if (!scratch)
		return 0;
	nat = &scratch->nat;
	nat->attempts = SNAT_ATTEMPTS;
	for (__u32 i = 0; i <= SNAT_ATTEMPTS && i <= nat->attempts; i++) {
		asm volatile("" : "+r"(nat)); /* pointers into it are cheaper to make than to keep on the stack */
		nat->crowded = i > 1;
		if (i == 1)
			limit_attempts(nat);
		if (i ? !pick_port(nat, i <= SNAT_ATTEMPTS / 2) : !nat->may_keep_port)
			continue;
		if (nat->netns_to_check != NETNS_UNKNOWN && socket_has_port(ctx, nat))
			continue;
		if (claim_reply(nat))
			return nat->reply_key.destination_port;
	}
	count_failure(nat);
	return 0;
}

/* Whose sockets may have the reply's port: the node's where the source is its address, else those of a pod on this
 * node. */
static __always_inline __u32 netns_to_check(const struct nat_setup *nat, const struct packet *packet)
{
	struct local_address *local;

	if (nat->node_source)
		return BPF_F_CURRENT_NETNS;
	local = lookup_local_address(&nat->reply_key.source);
	if (!local || local->kind != LOCAL_POD)
		return NETNS_UNKNOWN;
	/* The network may have moved the connection here: then it is its own socket that the pod has. */
	return config.dsr && !may_be_new(packet) ? NETNS_UNKNOWN : local->netns;
}

/* Which addresses of a new connection change. */
enum open_mode {
	OPEN_DNAT, /* the client's address stays */
	OPEN_MASQUERADE, /* the source becomes the node's address */
	OPEN_MASQUERADE_OUT, /* the source becomes the address of the route to a backend on another node */
	OPEN_OUTSIDE, /* the source becomes the address that was found for the outside */
	OPEN_FROM_NODE, /* the client is the node itself: only its port may have to change */
};

/* What is known of a connection before it is opened. */
struct new_flow {
	const struct address *backend_address;
	__u32 service;
	__u32 backend; /* its identifier */
	enum open_mode mode;
	__be16 backend_port;
	__u8 flags; /* enum flow_flag */
	__u8 verdict; /* enum verdict: why it is not opened, where there is no backend */
};

/* Makes the node's primary address the source of the translated packets. */
static __always_inline void use_primary_address(struct nat_setup *nat, const struct packet *packet)
{
	const struct address *primary = primary_address(is_ipv4_packet(packet));

	if (primary)
		nat->reply_key.destination = *primary;
}

/* Inserts the forward entry; that of an earlier connection would hide it. Without it the reply's goes, too. */
static __always_inline enum verdict insert_forward(struct nat_setup *nat, const struct packet *packet)
{
	if (nat->reopens)
		bpf_map_delete_elem(&flows, &packet->tuple);
	nat->reopens = false;
	note_transient(&packet->tuple, &nat->forward);
	if (!bpf_map_update_elem(&transient_flows, &packet->tuple, &nat->forward, BPF_ANY))
		return VERDICT_PASS;
	bpf_map_delete_elem(&transient_flows, &nat->reply_key);
	return VERDICT_DROP_FLOWS_FULL;
}

/* Opens the connection of `packet` and leaves its forward entry, what the packet becomes, in `scratch`. Returns
 * VERDICT_PASS, or the reason why it cannot be opened. */
static __always_inline enum verdict open_flow(context *ctx, struct scratch *scratch, const struct packet *packet,
					      const struct new_flow *new, __u64 now)
{
	struct nat_setup *nat = &scratch->nat;
	__be16 port;

	nat->reply_key = reversed(&packet->tuple);
	nat->reply_key.source = *new->backend_address;
	nat->reply_key.source_port = new->backend_port;
	nat->reply = (struct flow){
		.source = packet->tuple.destination,
		.destination = packet->tuple.source,
		.source_port = packet->tuple.destination_port,
		.destination_port = packet->tuple.source_port,
		.service = new->service,
		.backend = new->backend,
		.direction = FLOW_REPLY,
		.flags = new->flags | FLOW_FLAG_OPENING,
		.expires_ns = now + flow_timeout_ns(packet->tuple.protocol, FLOW_NEW, FLOW_NEW),
	};
	nat->now = now;
	nat->node_source = new->mode != OPEN_DNAT;
	nat->may_keep_port = (nat->may_keep_port || new->mode != OPEN_OUTSIDE) &&
			     (!nat->node_source || bpf_ntohs(packet->tuple.source_port) >= 1024);
	nat->netns_to_check = netns_to_check(nat, packet);
	if (new->mode == OPEN_MASQUERADE || new->mode == OPEN_MASQUERADE_OUT)
		use_primary_address(nat, packet);
	if (new->mode == OPEN_MASQUERADE_OUT)
		use_source_of_route(ctx, nat);
	if (new->mode == OPEN_OUTSIDE)
		nat->reply_key.destination = nat->source;
	port = claim_source_port(ctx);
	if (!port)
		return VERDICT_DROP_NO_SNAT_PORT;
	nat->forward = nat->reply;
	nat->forward.source = nat->reply_key.destination;
	nat->forward.destination = nat->reply_key.source;
	nat->forward.source_port = port;
	nat->forward.destination_port = nat->reply_key.source_port;
	nat->forward.direction = FLOW_FORWARD;
	if (packet->tuple.protocol == IPPROTO_TCP)
		begin_numbers(ctx, &nat->forward, packet);
	return insert_forward(nat, packet);
}
