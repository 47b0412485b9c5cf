// SPDX-License-Identifier: Apache-2.0
/* The CNI plugin, which container runtimes call. It passes the request to the node's agent and prints the answer.
 *
 * The request on the agent's unix socket consists of "kubypass-cni 1", each variable CNI_*=..., an empty string, and
 * the network configuration as it came. A zero byte ends each string, and the end of sending ends the request. The
 * descriptor of the pod's network namespace is passed along. The answer is "EXITCODE LENGTH\n" and then LENGTH bytes
 * for standard output.
 *
 * Without an agent, a deletion is written to disk, and the agent carries it out later. Everything else fails as the CNI
 * specification 1.1.0 says. The program is static, because it runs on hosts that have no other files of ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DELETES "cni-deletes"
#define TIME_LIMIT_S 30
#define MOST_BYTES (1 << 20)
#define MAGIC "kubypass-cni 1"

/* Error codes of the specification. */
enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, DECODE_FAILURE = 6, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 };

extern char **environ;

static char config[MOST_BYTES + 1], request[2 * MOST_BYTES], answer[MOST_BYTES];
static size_t config_bytes, request_bytes;
static char version[32] = "1.0.0", limit[8];
static char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)] = "/run/kubypass/cni.sock";
static const struct {
	const char *name;
	char *value;
	size_t size;
} keys[] = {
	{ "cniVersion", version, sizeof(version) },
	{ "socket", socket_path, sizeof(socket_path) },
	{ "timeoutSeconds", limit, sizeof(limit) },
};

static void print_json_string(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void print_version(void)
{
	printf("{\"cniVersion\": ");
	print_json_string(version);
}

/* Prints the error result of the specification and exits. */
__attribute__((noreturn, format(printf, 2, 3))) static void fail(int code, const char *format, ...)
{
	char message[1024];
	va_list values;

	va_start(values, format);
	vsnprintf(message, sizeof(message), format, values);
	va_end(values);
	print_version();
	printf(", \"code\": %d, \"msg\": ", code);
	print_json_string(message);
	printf("}\n");
	exit(1);
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static int is_command(const char *name)
{
	return !strcmp(environment("CNI_COMMAND"), name);
}

/* Returns the closing quote of the string whose opening quote is at `at`; NULL where there is none. */
static const char *end_of_string(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && !*++at)
			return NULL;
	return *at ? at : NULL;
}

static void copy_string(char *target, size_t size, const char *from, const char *end)
{
	size_t at = 0;

	for (; from < end && at + 1 < size; from++) {
		if (*from == '\\')
			from++;
		target[at++] = *from;
	}
	target[at] = 0;
}

/* Copies the values of `keys` from the outermost object. Returns whether strings and brackets match; the agent parses
 * the rest. */
static int read_keys(const char *text)
{
	const char *key = NULL, *key_end = NULL, *end;
	int depth = 0, in_value = 0;

	for (; *text; text++) {
		if (strchr(" \t\r\n", *text))
			continue;
		if (!depth && *text != '{')
			return 0;
		if (*text == '{' || *text == '[')
			depth++;
		else if ((*text == '}' || *text == ']') && !--depth)
			return !text[1 + strspn(text + 1, " \t\r\n")];
		else if ((*text == ',' || *text == ':') && depth == 1)
			in_value = *text == ':';
		if (*text != '"')
			continue;
		end = end_of_string(text);
		if (!end)
			return 0;
		for (size_t i = 0; depth == 1 && in_value && key && i < sizeof(keys) / sizeof(*keys); i++)
			if (!strncmp(key, keys[i].name, key_end - key) && !keys[i].name[key_end - key])
				copy_string(keys[i].value, keys[i].size, text + 1, end);
		if (depth == 1 && !in_value) {
			key = text + 1;
			key_end = end;
		}
		text = end;
	}
	return 0;
}

static void read_config(void)
{
	config_bytes = fread(config, 1, sizeof(config), stdin);
	if (ferror(stdin))
		fail(IO_FAILURE, "cannot read the network configuration: %s", strerror(errno));
	if (config_bytes > MOST_BYTES)
		fail(DECODE_FAILURE, "the network configuration has over %d bytes", MOST_BYTES);
	if (!read_keys(config))
		fail(DECODE_FAILURE, "the network configuration on standard input is not a JSON object");
}

static void append(const char *data, size_t size)
{
	if (size > sizeof(request) - request_bytes)
		fail(INVALID_ENVIRONMENT, "the environment is too large");
	memcpy(request + request_bytes, data, size);
	request_bytes += size;
}

static void build_request(void)
{
	append(MAGIC, sizeof(MAGIC));
	for (char **variable = environ; *variable; variable++)
		if (!strncmp(*variable, "CNI_", 4))
			append(*variable, strlen(*variable) + 1);
	append("", 1);
	append(config, config_bytes);
}

/* Sends the request, with the descriptor of the pod's network namespace if that can be opened. */
static int send_request(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec part = { .iov_base = request, .iov_len = request_bytes };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	int netns = open(environment("CNI_NETNS"), O_RDONLY | O_CLOEXEC);

	if (netns >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &netns, sizeof(int));
	}
	errno = EAGAIN; /* a request that is sent in part has timed out */
	return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)request_bytes ? shutdown(fd, SHUT_WR) : -1;
}

/* Prints the agent's answer and exits; returns with errno set where there is no answer. */
static void ask_agent(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval time_limit = { .tv_sec = atoi(limit) > 0 ? atoi(limit) : TIME_LIMIT_S };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status;
	FILE *stream = fdopen(fd, "r");
	size_t bytes;

	strcpy(address.sun_path, socket_path);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time_limit, sizeof(time_limit));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time_limit, sizeof(time_limit));
	if (!stream || connect(fd, (struct sockaddr *)&address, sizeof(address)) || send_request(fd))
		return;
	errno = ECONNRESET; /* an answer that ends too early */
	if (fscanf(stream, "%d %zu", &status, &bytes) != 2 || fgetc(stream) != '\n' || bytes > sizeof(answer) ||
	    fread(answer, 1, bytes, stream) != bytes)
		return;
	exit(fwrite(answer, 1, bytes, stdout) == bytes && !fflush(stdout) ? status : 1);
}

/* Writes the deletion to disk for the agent: the file is complete under its name, or does not exist. */
static void defer_deletion(void)
{
	char path[sizeof(socket_path) + 64], temporary[sizeof(path) + 32];
	uint64_t hash = 14695981039346656037u; /* FNV-1a: a repeated deletion gets the same name */
	const char *const parts[] = { environment("CNI_CONTAINERID"), "/", environment("CNI_IFNAME") };
	char *slash = strrchr(socket_path, '/');
	int directory, fd;

	for (int i = 0; i < 3; i++)
		for (const char *at = parts[i]; *at; at++)
			hash = (hash ^ (unsigned char)*at) * 1099511628211u;
	*(slash ? slash : socket_path) = 0;
	mkdir(socket_path, 0755);
	snprintf(path, sizeof(path), "%s/" DELETES, socket_path);
	mkdir(path, 0700);
	directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%016llx", (unsigned long long)hash);
	snprintf(temporary, sizeof(temporary), ".%s.%d", path, getpid());
	if (directory < 0 || (fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0 ||
	    write(fd, request, request_bytes) != (ssize_t)request_bytes || fsync(fd) ||
	    renameat(directory, temporary, directory, path) || fsync(directory))
		fail(IO_FAILURE, "the agent does not answer, and the deletion cannot be kept in %s/" DELETES ": %s",
		     socket_path, strerror(errno));
}

int main(void)
{
	if (!*environment("CNI_COMMAND"))
		fail(INVALID_ENVIRONMENT, "CNI_COMMAND is not set: this program is called by container runtimes");
	read_config();
	if (is_command("VERSION")) {
		print_version();
		printf(", \"supportedVersions\": [\"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]}\n");
		return 0;
	}
	build_request();
	ask_agent();
	if (is_command("DEL")) {
		defer_deletion();
		return 0;
	}
	fail(is_command("STATUS") ? NOT_AVAILABLE : TRY_AGAIN_LATER,
	     "the kubypass agent of this node does not answer on %s: %s; is its pod running?", socket_path,
	     strerror(errno));
}
