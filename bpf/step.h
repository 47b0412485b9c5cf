/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one part of a program returns: it is done, or another part has to go on with the packet. The parts are global
 * functions, which the verifier looks at one by one, each with its own stack: a packet that needs only the first
 * pays for nothing else. Such a function returns a scalar, so a step travels in 64 bits. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

enum next_part {
	NEXT_NONE = 0, /* the program returns `action` */
	NEXT_SLOW_PATH = 1,
	NEXT_ICMP_REPLY = 2, /* the packet becomes the ICMP message that `verdict` asks for */
	NEXT_SEND_DSR = 3, /* to a backend whose node answers */
	NEXT_RECEIVE_DSR = 4, /* the packet has an option of another node */
	NEXT_AGAIN = 5, /* the first part judges the packet again */
	NEXT_SEND_IN_TUNNEL = 6, /* to a backend whose node answers; it is translated */
	NEXT_RECEIVE_FROM_TUNNEL = 7, /* the packet is in one of another node */
};

/* `action` comes first: where a part ends in a tail call to the previous version's program, that program's action is
 * the step. */
union step {
	__u64 bits;
	struct {
		__u8 action; /* what the hook returns */
		__u8 next; /* enum next_part */
		__u8 verdict; /* enum verdict, of an ICMP reply */
		bool reinject; /* queued fragments follow the packet */
		__u32 mtu; /* of an ICMP reply that tells of a packet that is too big; 0: unknown */
	};
};
