// SPDX-License-Identifier: Apache-2.0
/* Sends random and malformed packets through programs by test run.
 *
 *	fuzz SEED COUNT METRICS-FD IFINDEX PROGRAM...
 *
 * A PROGRAM is FD:HOOK. METRICS-FD is the map of counters. Addresses that
 *packets should use come on standard input, one a line. After each packet these
 *rules are checked:
 *
 * - the return code fits the verdict;
 * - exactly one counter has grown, by one;
 * - checksums that were correct are correct;
 * - XDP counts what it handles and nothing else;
 * - a packet that passes is unchanged except for its addresses and ports;
 * - only answers have another size, and packets that lose or get the option
 *   of DSR; no answer exceeds the size of an ICMP error.
 *
 * The program prints how often it met each verdict, or the first packet that
 *breaks a rule, with status 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksums.h"
#include "kubypass.h"
#include "packets.h"
#include "test_run.h"

#define CODE_PASS 0
#define CODE_SHOT 2
#define CODE_REDIRECT 7
/* XDP_DROP, XDP_PASS and XDP_TX. */
#define XDP_CODE_DROP 1
#define XDP_CODE_PASS 2
#define XDP_CODE_TX 3
#define ANSWER_MAX                                                                                                     \
	1294 /* Ethernet and the IPv6 minimum MTU, which no ICMPv6 error exceeds     \
          (RFC 4443 section 2.4) */

/* Returns how many counters have grown, or -1 if one has grown by more than
 * one; sets `verdict` to the last. */
static int find_verdict(struct run *run)
{
	int moved = 0;

	if (!memcmp(before, after, COUNTERS * cpus * sizeof(*before)))
		return 0;
	for (int i = 0; i < COUNTERS * cpus; i++) {
		if (before[i].packets == after[i].packets)
			continue;
		if (after[i].packets - before[i].packets != 1 ||
		    (unsigned int)i / cpus / VERDICT_MAX != run->program->hook)
			return -1;
		run->verdict = i / cpus % VERDICT_MAX;
		met[i / cpus]++;
		moved++;
	}
	return moved;
}

/* Does the packet go to the loopback device, to arrive at the node itself? */
static bool comes_back(const struct run *run)
{
	static const unsigned char nobody[12];

	return run->code == CODE_REDIRECT && !memcmp(run->out, nobody, sizeof(nobody));
}

/* Has the packet the size that it came with? In DSR mode it may have got the option, or lost it. */
static bool has_right_size(const struct run *run)
{
	if (run->out_bytes == run->in_bytes)
		return true;
	if (run->verdict == VERDICT_DSR)
		return run->out_bytes == run->in_bytes + dsr_option_bytes(run->out, run->out_bytes);
	return run->program->hook == HOOK_FROM_UPLINK &&
	       run->out_bytes + dsr_option_bytes(run->in, run->in_bytes) == run->in_bytes;
}

static const char *judge_passed(struct run *run)
{
	if (run->out_bytes != run->in_bytes)
		return "what passes has another size";
	if (memcmp(run->in, run->out, run->in_bytes) &&
	    ((memcmp(run->in, run->out, ETHERNET) && !comes_back(run)) ||
	     !same_but_ends(run->in + ETHERNET, run->out + ETHERNET, run->in_bytes - ETHERNET)))
		return "what passes has changed in more than its addresses and ports";
	return NULL;
}

static const char *judge_sums(struct run *run)
{
	struct sums was = check_sums(run->in, run->in_bytes), is = check_sums(run->out, run->out_bytes);

	if (was.ip == SUM_RIGHT && is.ip != SUM_RIGHT)
		return "wrong IP checksum";
	if (was.transport == SUM_RIGHT && is.transport != SUM_RIGHT)
		return "wrong transport checksum";
	if (was.quoted == SUM_RIGHT && is.quoted != SUM_RIGHT)
		return "wrong IP checksum in what is quoted";
	if (was.transport == SUM_NONE && is.transport != SUM_NONE)
		return "a UDP checksum of zero did not stay";
	return NULL;
}

static const char *judge_answer(struct run *run)
{
	struct sums is = check_sums(run->out, run->out_bytes);

	if (run->code == CODE_SHOT)
		return NULL; /* more answers than the budget allows */
	if (run->code != CODE_REDIRECT)
		return "code of an answer";
	if (run->out_bytes > ANSWER_MAX)
		return "the answer is too large";
	return is.ip == SUM_WRONG || is.transport != SUM_RIGHT ? "wrong checksum in the answer" : NULL;
}

/* Returns the rule that a frame breaks which went through XDP, or NULL. It counts what it handles, and nothing else. */
static const char *judge_frame(struct run *run, int moved)
{
	if (run->error)
		return run->error == EINVAL && !moved ? NULL : strerror(run->error);
	if (run->code == XDP_CODE_PASS)
		return moved || run->out_bytes != run->in_bytes || memcmp(run->in, run->out, run->in_bytes)
			       ? "what passes XDP is counted, or has changed"
			       : NULL;
	if (moved != 1)
		return "XDP has not counted once";
	if (run->code == XDP_CODE_DROP)
		return run->verdict > VERDICT_DROP && run->verdict < VERDICT_ANSWER ? NULL : "code of a drop";
	if (run->code != XDP_CODE_TX || (run->verdict != VERDICT_TO_NETWORK && run->verdict != VERDICT_DSR))
		return "code";
	return has_right_size(run) ? judge_sums(run) : "another size";
}

/* Returns the rule that the packet breaks, or NULL. */
static const char *judge(struct run *run)
{
	int moved = find_verdict(run);
	bool passed;

	if (run->program->hook == HOOK_XDP)
		return judge_frame(run, moved);
	if (run->error == EINVAL)
		return moved ? "refused, but counted" : NULL; /* test run needs more than an Ethernet header */
	if (run->mark == MARK_FORWARDED &&
	    (run->program->hook == HOOK_TO_UPLINK || run->program->hook == HOOK_TO_POD)) {
		if (moved || run->code != CODE_PASS)
			return "what our hooks have forwarded is not let through uncounted";
		return judge_passed(run);
	}
	if (!moved && run->program->hook == HOOK_TO_SELF) /* this hook looks at SCTP only */
		return run->code == CODE_PASS && !memcmp(run->in, run->out, run->in_bytes)
			       ? NULL
			       : "changed by a hook that ignores it";
	if (moved != 1)
		return "not counted once";
	if (run->error == EBADMSG) /* the sum of an answer is void, since the packet was cut */
		return run->verdict > VERDICT_ANSWER || has_no_sum(run->in, run->in_bytes)
			       ? NULL
			       : "the device's sum is wrong";
	if (run->error)
		return strerror(run->error);
	if (run->verdict > VERDICT_ANSWER)
		return judge_answer(run);
	if (run->verdict > VERDICT_DROP || run->verdict == VERDICT_QUEUED)
		return run->code == CODE_SHOT ? NULL : "code of a drop";
	passed = run->verdict == VERDICT_PASS || run->verdict == VERDICT_FOREIGN;
	if (run->code != (passed ? CODE_PASS : CODE_REDIRECT) && (run->verdict || !comes_back(run)))
		return "code";
	if (!has_right_size(run))
		return "another size";
	if (passed && run->out_bytes == run->in_bytes && judge_passed(run))
		return judge_passed(run);
	if (run->verdict == VERDICT_FOREIGN && memcmp(run->in, run->out, run->in_bytes))
		return "a foreign packet has changed";
	return judge_sums(run);
}

static void print_hex(const char *what, const unsigned char *data, uint32_t bytes)
{
	printf("%s ", what);
	for (uint32_t i = 0; i < bytes; i++)
		printf("%02x", data[i]);
	printf("\n");
}

static int report(const struct run *run, const char *wrong, uint64_t seed, uint64_t number)
{
	printf("KUBYPASS_SEED=%llu packet %llu: %s\n", (unsigned long long)seed, (unsigned long long)number, wrong);
	printf("hook %u verdict %u code %u error %d mark %x flags %u\n", run->program->hook, run->verdict, run->code,
	       run->error, run->mark, run->flags);
	print_hex("in ", run->in, run->in_bytes);
	print_hex("out", run->out, run->out_bytes);
	return 1;
}

int main(int argc, char **argv)
{
	struct program programs[PROGRAMS_MAX];
	static struct run run;
	uint64_t seed, count;
	int many = 0;
	bool summed;

	if (argc < 6 || argc - 5 > PROGRAMS_MAX)
		return 2;
	seed = strtoull(argv[1], NULL, 10);
	count = strtoull(argv[2], NULL, 10);
	metrics_fd = atoi(argv[3]);
	if (sscanf(argv[4], "%u:%u", &uplink, &pod_device) != 2)
		return 2;
	for (int i = 5; i < argc; i++, many++)
		if (sscanf(argv[i], "%d:%u", &programs[many].fd, &programs[many].hook) != 2)
			return 2;
	cpus = possible_cpus();
	if (cpus > CPUS_MAX)
		return 2;
	read_addresses(stdin);
	seed_dice(seed);
	stay_on_one_cpu();
	summed = knows_sums(&programs[0]);
	read_counters(before);
	for (uint64_t number = 0; number < count; number++) {
		const char *wrong;

		run.program = &programs[roll(many)];
		run.mark = roll(64) ? 0 : MARK_FORWARDED;
		run.flags = summed && run.program->hook != HOOK_XDP && !roll(4) ? CHECKSUM_COMPLETE : 0;
		run.verdict = 0;
		run.in_bytes = make_packet(run.in);
		test_run(&run);
		read_counters(after);
		wrong = judge(&run);
		if (wrong)
			return report(&run, wrong, seed, number);
		memcpy(before, after, COUNTERS * cpus * sizeof(*before));
	}
	for (int i = 0; i < COUNTERS; i++)
		if (met[i])
			printf("%d %d %llu\n", i / VERDICT_MAX, i % VERDICT_MAX, (unsigned long long)met[i]);
	return 0;
}
