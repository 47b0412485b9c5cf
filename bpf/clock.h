/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The time by which entries expire. */
#pragma once

#include "config.h"

#define NS_PER_S 1000000000ULL

static __always_inline __u64 now_ns(void)
{
	return config.coarse_clock ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();
}
