/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The settings of a program: the loader writes them before the verifier sees it, so that what is off is not there. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "kubypass.h"

const volatile struct config config SEC(".rodata");
