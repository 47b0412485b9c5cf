// SPDX-License-Identifier: Apache-2.0
/* Asks several HTTP servers in turn, one request each in every round, and compares their times: drifts of the machine
 * affect all of them alike. Usage: paired [--keepalive] --rounds N NAME=ADDRESS:PORT ... (IPv6: NAME=[ADDRESS]:PORT)
 * Prints JSON: percentiles for each target, and the ratio p50(first target) / p50(target) for each tenth of the run. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_TARGETS 8
#define PARTS 10

struct target {
	char name[32];
	struct sockaddr_storage address;
	socklen_t length;
	int socket; /* the kept-alive connection; -1 for none */
	double *us;
};

static void fail(const char *what, const char *subject)
{
	fprintf(stderr, "paired: %s %s: %s\n", what, subject, errno ? strerror(errno) : "unexpected answer");
	exit(1);
}

static void parse_target(const char *text, struct target *target)
{
	char copy[128], *place, *port;
	struct sockaddr_in *v4 = (void *)&target->address;
	struct sockaddr_in6 *v6 = (void *)&target->address;

	snprintf(copy, sizeof(copy), "%s", text);
	place = strchr(copy, '=');
	port = strrchr(copy, ':');
	if (!place || !port || port < place)
		fail("expected NAME=ADDRESS:PORT, not", text);
	*place++ = '\0';
	*port++ = '\0';
	snprintf(target->name, sizeof(target->name), "%.31s", copy);
	target->socket = -1;
	if (*place == '[') {
		place[strlen(place) - 1] = '\0';
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(atoi(port));
		target->length = sizeof(*v6);
		if (inet_pton(AF_INET6, place + 1, &v6->sin6_addr) != 1)
			fail("no IPv6 address in", text);
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(atoi(port));
		target->length = sizeof(*v4);
		if (inet_pton(AF_INET, place, &v4->sin_addr) != 1)
			fail("no IPv4 address in", text);
	}
}

static int dial(const struct target *target)
{
	int one = 1, fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const void *)&target->address, target->length))
		fail("connect to", target->name);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* Sends one request and reads the whole answer. */
static void ask(int fd, const struct target *target, bool keepalive)
{
	static const char open_request[] = "GET / HTTP/1.1\r\nHost: paired\r\n\r\n";
	static const char close_request[] = "GET / HTTP/1.1\r\nHost: paired\r\nConnection: close\r\n\r\n";
	const char *request = keepalive ? open_request : close_request;
	char buffer[16384], *body, *length;
	size_t have = 0, want = 0;

	errno = 0;
	if (write(fd, request, strlen(request)) < 0)
		fail("write to", target->name);
	while (!want || have < want) {
		ssize_t got = read(fd, buffer + have, sizeof(buffer) - 1 - have);

		if (got <= 0)
			fail("read from", target->name);
		have += got;
		buffer[have] = '\0';
		body = strstr(buffer, "\r\n\r\n");
		if (want || !body)
			continue;
		length = strcasestr(buffer, "content-length:");
		if (strncmp(buffer, "HTTP/1.1 200", 12) || !length)
			fail("answer of", target->name);
		want = body + 4 - buffer + strtoul(length + 15, NULL, 10);
		if (want >= sizeof(buffer))
			fail("too long an answer of", target->name);
	}
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static double measure(struct target *target, bool keepalive)
{
	double started = now_us();

	if (keepalive) {
		if (target->socket < 0)
			target->socket = dial(target);
		started = now_us();
		ask(target->socket, target, true);
		return now_us() - started;
	}
	target->socket = dial(target);
	ask(target->socket, target, false);
	close(target->socket);
	return now_us() - started;
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return left < right ? -1 : left > right;
}

/* The value below which a `share` of the `count` values are. */
static double percentile(const double *values, int count, double share)
{
	double *sorted = malloc(count * sizeof(*sorted)), found;

	memcpy(sorted, values, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare);
	found = sorted[(int)(share * (count - 1))];
	free(sorted);
	return found;
}

static void print_target(const struct target *target, const struct target *first, int rounds)
{
	double ratios[PARTS];
	int part = rounds / PARTS;

	for (int i = 0; i < PARTS; i++)
		ratios[i] = percentile(first->us + i * part, part, .5) / percentile(target->us + i * part, part, .5);
	printf("\"%s\": {\"p50_us\": %.2f, \"p90_us\": %.2f, \"p99_us\": %.2f, "
	       "\"ratio\": {\"min\": %.4f, \"median\": %.4f, \"max\": %.4f}}",
	       target->name, percentile(target->us, rounds, .5), percentile(target->us, rounds, .9),
	       percentile(target->us, rounds, .99), percentile(ratios, PARTS, 0),
	       (percentile(ratios, PARTS, .5) + percentile(ratios, PARTS, .56)) / 2, percentile(ratios, PARTS, 1));
}

int main(int argc, char **argv)
{
	struct target targets[MAX_TARGETS] = {};
	int count = 0, rounds = 0;
	bool keepalive = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--keepalive"))
			keepalive = true;
		else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			rounds = atoi(argv[++i]);
		else if (count < MAX_TARGETS)
			parse_target(argv[i], &targets[count++]);
	}
	if (rounds < PARTS || !count) {
		fprintf(stderr, "usage: paired [--keepalive] --rounds N (at least 10) NAME=ADDRESS:PORT ...\n");
		return 2;
	}
	for (int i = 0; i < count; i++)
		targets[i].us = calloc(rounds, sizeof(double));
	for (int round = -rounds / 20; round < rounds; round++) /* the first few warm up */
		for (int i = 0; i < count; i++) {
			int chosen = (i + (round < 0 ? 0 : round)) % count;
			double us = measure(&targets[chosen], keepalive);

			if (round >= 0)
				targets[chosen].us[round] = us;
		}
	printf("{");
	for (int i = 0; i < count; i++) {
		fputs(i ? ", " : "", stdout);
		print_target(&targets[i], &targets[0], rounds);
	}
	printf("}\n");
	return 0;
}
