/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The time that entries expire by. */
#pragma once

#include "config.h"

static __always_inline __u64 now_ns(void)
{
	return config.coarse_clock ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();
}
