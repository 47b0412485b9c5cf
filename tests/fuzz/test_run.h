/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a packet through a program that is loaded, and reads the counters of all
 * programs. */
#pragma once

#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kubypass.h"
#include "packets.h"

#define COUNTERS (HOOK_MAX * VERDICT_MAX)
#define CPUS_MAX 512
#define PROGRAMS_MAX 16
#define CHECKSUM_COMPLETE 4

struct program {
	int fd;
	unsigned int hook;
};

struct context { /* the part of struct __sk_buff that test run takes */
	uint32_t len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority,
		ingress_ifindex, ifindex;
	uint8_t rest[148];
};

struct run {
	struct program *program;
	unsigned char in[PACKET_MAX], out[PACKET_MAX + 2048];
	uint32_t in_bytes, out_bytes, code, mark, flags;
	int error;
	unsigned int verdict;
};

static struct counter before[COUNTERS * CPUS_MAX], after[COUNTERS * CPUS_MAX];
static uint64_t met[COUNTERS];
static int metrics_fd, cpus;
static uint32_t uplink, pod_device;

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static void read_counters(struct counter *to)
{
	static uint32_t keys[COUNTERS], cursor;
	union bpf_attr attr = {
      .batch =
          {
              .out_batch = (uintptr_t)&cursor,
              .keys = (uintptr_t)keys,
              .values = (uintptr_t)to,
              .count = COUNTERS,
              .map_fd = metrics_fd,
          },
  };

	bpf(BPF_MAP_LOOKUP_BATCH, &attr);
	if (attr.batch.count == COUNTERS)
		return;
	for (uint32_t key = 0; key < COUNTERS; key++) { /* Linux 5.10 has no batches for per-CPU arrays */
		union bpf_attr one = { .map_fd = metrics_fd,
				       .key = (uintptr_t)&key,
				       .value = (uintptr_t)&to[key * cpus] };

		if (bpf(BPF_MAP_LOOKUP_ELEM, &one)) {
			perror("fuzz: counters");
			exit(2);
		}
	}
}

static void test_run(struct run *run)
{
	struct context context = { .mark = run->mark }, context_out;
	struct xdp_md frame = { .data_end = run->in_bytes, .ingress_ifindex = uplink };
	union bpf_attr attr = {
      .test =
          {
              .prog_fd = run->program->fd,
              .data_size_in = run->in_bytes,
              .data_size_out = sizeof(run->out),
              .data_in = (uintptr_t)run->in,
              .data_out = (uintptr_t)run->out,
              .ctx_size_in = sizeof(context),
              .ctx_size_out = sizeof(context_out),
              .ctx_in = (uintptr_t)&context,
              .ctx_out = (uintptr_t)&context_out,
              .flags = run->flags,
          },
  };

	if (run->program->hook == HOOK_XDP) {
		attr.test.ctx_in = (uintptr_t)&frame;
		attr.test.ctx_size_in = sizeof(frame);
	}
	context.ifindex = run->program->hook == HOOK_FROM_POD ? pod_device : uplink;
	run->error = bpf(BPF_PROG_TEST_RUN, &attr) ? errno : 0;
	run->code = attr.test.retval;
	run->out_bytes = attr.test.data_size_out;
}

static void stay_on_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int possible_cpus(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/possible", "r");
	int first = 0, last = 0;

	if (!file || fscanf(file, "%d-%d", &first, &last) < 1)
		exit(2);
	fclose(file);
	return (last > first ? last : first) + 1;
}

/* Does test run accept packets whose checksum a device has computed
 * (Linux 6.11)? */
static bool knows_sums(struct program *program)
{
	static struct run run;

	run = (struct run){ .program = program, .in_bytes = 64, .flags = CHECKSUM_COMPLETE };
	test_run(&run);
	return !run.error;
}
