/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counts every outcome of a packet or a socket call; nothing else does. */
#pragma once

#include "maps.h"

static __always_inline void count(enum hook hook, enum verdict verdict, __u32 bytes)
{
	__u32 index = hook * VERDICT_MAX + verdict;
	struct counter *counter = bpf_map_lookup_elem(&metrics, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}
