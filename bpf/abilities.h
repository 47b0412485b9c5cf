/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What one kind of hook can do with a packet and another cannot. Each context.h says which of these it has; a
 * function that needs one it lacks returns -EOPNOTSUPP there, or zero where it asks for a property of the packet. */
#pragma once

#include <linux/errno.h>

enum ability {
	ABILITY_MARK = 1, /* a mark travels with the packet to the device's own hook */
	ABILITY_SEGMENTS = 2, /* the size of the segments that a large packet will be cut into is known (GSO) */
	ABILITY_DEVICE_CHECKSUM = 4, /* a checksum may be left to the device, or summed by it */
	ABILITY_REDIRECT_IN = 8, /* a packet can arrive at another device, or in a pod's network namespace */
	ABILITY_NEIGHBOUR = 16, /* the kernel resolves the next hop's MAC address */
	ABILITY_COPY = 32, /* whole packets can be copied and queued */
	ABILITY_PACKET_TYPE = 64, /* the link layer says whether the packet was sent to this host */
};
