/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* ICMP's echo messages (RFC 792, RFC 4443 section 4), whose identifier is what ports are to others. */
#pragma once

#include <linux/icmpv6.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <linux/in6.h>

#include "kubypass.h"

/* Their types of IPv4: <linux/icmp.h> needs headers that this target lacks. */
#define ICMP_ECHO_REPLY 0
#define ICMP_ECHO 8

struct icmp_echo {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 identifier;
	__be16 sequence;
};

static __always_inline bool is_icmp_protocol(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* The identifier of an echo message is the port of the host that asks; the other has none. Returns false where the
 * message is another one. */
static __always_inline bool set_echo_ports(struct tuple *tuple, const struct icmp_echo *icmp)
{
	bool ipv6 = tuple->protocol == IPPROTO_ICMPV6;

	if (icmp->type == (ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO))
		tuple->source_port = icmp->identifier;
	else if (icmp->type == (ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHO_REPLY))
		tuple->destination_port = icmp->identifier;
	else
		return false;
	return true;
}
