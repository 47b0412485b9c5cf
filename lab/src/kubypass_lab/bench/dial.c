// SPDX-License-Identifier: Apache-2.0
/* Shows which backend answers at an address, and since when.
 *   dial serve PORT             answers every connection with the address to which it was made
 *   dial watch ADDRESS:PORT US  connects again and again, with pauses of US microseconds. Whenever the answering
 *                               backend changes it prints a line: the time (CLOCK_MONOTONIC, ns) when the handshake
 *                               ended, the backend's address ("-" for a failure), and the number of failures so far.
 * Connections are reset, not closed, so that no port and no conntrack entry stays for two minutes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_US 250000

static int fail(const char *what)
{
	fprintf(stderr, "dial: %s: %s\n", what, strerror(errno));
	return 1;
}

static int serve(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1024))
		return fail("listen");
	for (;;) {
		struct sockaddr_in own;
		socklen_t length = sizeof(own);
		char name[INET_ADDRSTRLEN];
		int fd = accept(listener, NULL, NULL);

		if (fd < 0 || getsockname(fd, (void *)&own, &length))
			continue;
		inet_ntop(AF_INET, &own.sin_addr, name, sizeof(name));
		if (send(fd, name, strlen(name), MSG_NOSIGNAL) > 0)
			recv(fd, name, sizeof(name), 0); /* until the client is done */
		close(fd);
	}
}

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Connects once: who answered ("-": nobody), and when the handshake ended. */
static long long ask(const struct sockaddr_in *target, char name[static INET_ADDRSTRLEN])
{
	const struct timeval patience = { .tv_usec = PATIENCE_US };
	const struct linger reset = { .l_onoff = 1 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t got = -1;
	long long when;

	if (fd < 0)
		exit(fail("socket"));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* connect() uses it, too */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	if (!connect(fd, (const void *)target, sizeof(*target))) {
		when = now_ns();
		got = recv(fd, name, INET_ADDRSTRLEN - 1, 0);
	} else {
		when = now_ns();
	}
	strcpy(name + (got > 0 ? got : 0), got > 0 ? "" : "-");
	close(fd);
	return when;
}

static int watch(const char *text, int pause_us)
{
	struct sockaddr_in target = { .sin_family = AF_INET };
	const struct timespec pause = { pause_us / 1000000, pause_us % 1000000 * 1000L };
	char host[64], name[INET_ADDRSTRLEN], last[INET_ADDRSTRLEN] = "";
	char *port;
	long failures = 0;

	snprintf(host, sizeof(host), "%s", text);
	port = strchr(host, ':');
	if (port)
		*port++ = '\0';
	if (!port || inet_pton(AF_INET, host, &target.sin_addr) != 1) {
		errno = EINVAL;
		return fail(text);
	}
	target.sin_port = htons(atoi(port));
	for (;;) {
		long long when = ask(&target, name);

		failures += *name == '-';
		if (strcmp(name, last)) {
			printf("%lld %s %ld\n", when, name, failures);
			fflush(stdout);
			strcpy(last, name);
		}
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc == 4 && !strcmp(argv[1], "watch"))
		return watch(argv[2], atoi(argv[3]));
	fprintf(stderr, "usage: dial serve PORT | dial watch ADDRESS:PORT MICROSECONDS\n");
	return 2;
}
