// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Measures a program in a tight loop: each run gives the packet its headers back, then calls the program. The Makefile
 * compiles this file once with each context; tests/packet/test_cost_in_loops.py loads it, and nothing attaches it. */
#include "context.h"

#define FRAMES_MAX 65536
#define HEADER_BYTES 80

struct headers {
	__u8 bytes[HEADER_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAMES_MAX);
	__type(key, __u32);
	__type(value, struct headers);
} frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

static __u32 runs;

/* How many of `frames` are taken in turn: a power of two. */
const volatile __u32 turns SEC(".rodata") = 1;

/* The device that live frames leave by. */
const volatile __u32 out SEC(".rodata") = 1;

/* Makes the packet the next of `frames`. */
static __always_inline bool take_turn(context *ctx)
{
	__u32 index = runs++ & (turns - 1);
	struct headers *frame = bpf_map_lookup_elem(&frames, &index);
	struct cursor cursor = readable_bytes(ctx);
	void *start = header_at(&cursor, 0, HEADER_BYTES);

	if (!frame || !start)
		return false;
	__builtin_memcpy(start, frame, HEADER_BYTES);
	return true;
}

SEC(CONTEXT_SECTION)
int restore(context *ctx)
{
	if (!take_turn(ctx))
		return ACTION_DROP;
	bpf_tail_call(ctx, &measured, 0);
	return ACTION_PASS;
}

/* What `restore` costs is subtracted: it calls this, which does nothing. */
SEC(CONTEXT_SECTION)
int nothing(context *ctx)
{
	return ACTION_PASS;
}

/* Sends live frames out of a device. */
SEC(CONTEXT_SECTION)
int generate(context *ctx)
{
	return take_turn(ctx) ? redirect_out(out) : ACTION_DROP;
}

/* Takes what comes back. */
SEC(CONTEXT_SECTION)
int sink(context *ctx)
{
	return ACTION_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
