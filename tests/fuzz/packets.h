/* SPDX-License-Identifier: Apache-2.0 */
/* Packets to fuzz with, and what is right about their checksums: an independent reading of the same RFCs. */
#pragma once

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PACKET_MAX 3072
#define PLACES_MAX 64
#define ETHERNET 14

enum sum { SUM_UNKNOWN, SUM_RIGHT, SUM_WRONG, SUM_NONE };

struct sums {
	enum sum ip, transport, quoted; /* the last is the IP header in an ICMP error */
};

static unsigned char places4[PLACES_MAX][4], places6[PLACES_MAX][16];
static unsigned int many4, many6;
static uint64_t dice;

static void seed_dice(uint64_t seed)
{
	dice = seed * 0x9e3779b97f4a7c15ULL + 1;
}

/* A uniform number below `sides` (xorshift64*). */
static uint32_t roll(uint32_t sides)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return (uint32_t)(((dice * 0x2545f4914f6cdd1dULL) >> 32) * sides >> 32);
}

/* One address a line, of either family. */
static void read_places(FILE *from)
{
	char line[64];

	while (fgets(line, sizeof(line), from)) {
		line[strcspn(line, "\n")] = 0;
		if (many4 < PLACES_MAX && inet_pton(AF_INET, line, places4[many4]) == 1)
			many4++;
		else if (many6 < PLACES_MAX && inet_pton(AF_INET6, line, places6[many6]) == 1)
			many6++;
	}
}

static uint16_t get16(const unsigned char *at)
{
	return at[0] << 8 | at[1];
}

static void put16(unsigned char *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static uint32_t add_words(uint32_t sum, const unsigned char *data, uint32_t bytes)
{
	for (uint32_t i = 0; i + 1 < bytes; i += 2)
		sum += get16(data + i);
	if (bytes & 1)
		sum += data[bytes - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint32_t crc32c(const unsigned char *data, uint32_t bytes)
{
	static uint32_t table[256];
	uint32_t sum = ~0u;

	for (uint32_t i = 0; !table[255] && i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
	}
	for (uint32_t i = 0; i < bytes; i++)
		sum = sum >> 8 ^ table[(sum ^ data[i]) & 0xff];
	return ~sum;
}

/* A whole packet's transport: where it is, and what its checksum covers. `bytes` 0: it cannot be told. */
struct transport {
	const unsigned char *at;
	uint32_t bytes, pseudo;
	uint8_t protocol;
};

static struct transport find_transport4(const unsigned char *ip, uint32_t bytes)
{
	uint32_t header = (ip[0] & 15) * 4, total = get16(ip + 2);
	struct transport found = { .protocol = ip[9] };

	if (header < 20 || total < header || total > bytes || get16(ip + 6) & 0x3fff)
		return found;
	found.at = ip + header;
	found.bytes = total - header;
	found.pseudo = add_words(found.bytes + found.protocol, ip + 12, 8);
	return found;
}

static struct transport find_transport6(const unsigned char *ip, uint32_t bytes)
{
	uint32_t at = 40, end = 40 + get16(ip + 4);
	struct transport found = {};
	uint8_t next = ip[6];

	if (end > bytes || end == 40)
		return found;
	while (next == 0 || next == 43 || next == 60) {
		if (at + 8 > end || (next == 43 && ip[at + 3])) /* segments left: the last destination would count */
			return found;
		next = ip[at];
		at += (ip[at + 1] + 1) * 8;
	}
	if (at >= end)
		return found;
	found.at = ip + at;
	found.bytes = end - at;
	found.protocol = next;
	found.pseudo = add_words(found.bytes + next, ip + 8, 32);
	return found;
}

static enum sum check_transport(const struct transport *it, bool ipv4)
{
	uint32_t sum;

	if (it->protocol == 132) {
		if (it->bytes < 12)
			return SUM_UNKNOWN;
		{
			unsigned char copy[PACKET_MAX + 2048];
			uint32_t said;

			memcpy(copy, it->at, it->bytes);
			memcpy(&said, copy + 8, 4);
			memset(copy + 8, 0, 4);
			return said == crc32c(copy, it->bytes) ? SUM_RIGHT : SUM_WRONG;
		}
	}
	if (it->protocol == 6 && it->bytes >= 20)
		sum = it->pseudo;
	else if (it->protocol == 58 && !ipv4 && it->bytes >= 8)
		sum = it->pseudo;
	else if (it->protocol == 1 && ipv4 && it->bytes >= 8)
		sum = 0;
	else if (it->protocol == 17 && it->bytes >= 8 && get16(it->at + 4) == it->bytes)
		sum = it->pseudo;
	else
		return SUM_UNKNOWN;
	if (it->protocol == 17 && !get16(it->at + 6))
		return ipv4 ? SUM_NONE : SUM_UNKNOWN;
	return add_words(sum, it->at, it->bytes) == 0xffff ? SUM_RIGHT : SUM_WRONG;
}

static struct sums check_sums(const unsigned char *packet, uint32_t bytes)
{
	const unsigned char *ip = packet + ETHERNET;
	uint16_t type = bytes < ETHERNET ? 0 : get16(packet + 12);
	struct sums sums = { SUM_UNKNOWN, SUM_UNKNOWN, SUM_UNKNOWN };
	struct transport transport = {};

	bytes -= ETHERNET;
	if (type == 0x0800 && bytes >= 20 && ip[0] >> 4 == 4 && (ip[0] & 15) >= 5 && (ip[0] & 15) * 4u <= bytes) {
		sums.ip = add_words(0, ip, (ip[0] & 15) * 4) == 0xffff ? SUM_RIGHT : SUM_WRONG;
		transport = find_transport4(ip, bytes);
	} else if (type == 0x86dd && bytes >= 40 && ip[0] >> 4 == 6) {
		transport = find_transport6(ip, bytes);
	}
	if (!transport.bytes)
		return sums;
	sums.transport = check_transport(&transport, type == 0x0800);
	if (type == 0x0800 && transport.protocol == 1 && transport.bytes >= 28 && transport.at[8] == 0x45)
		sums.quoted = add_words(0, transport.at + 8, 20) == 0xffff ? SUM_RIGHT : SUM_WRONG;
	return sums;
}

/* Where the transport header starts, from that of IP: of any whose headers can be read, even if the packet was cut. */
static uint32_t find_offset(const unsigned char *ip, uint32_t bytes, uint8_t *protocol)
{
	uint32_t at = 40;
	uint8_t next = ip[6];

	if (ip[0] >> 4 == 4) {
		*protocol = ip[9];
		return (ip[0] & 15) * 4;
	}
	while (at + 8 <= bytes && (next == 0 || next == 43 || next == 60 || next == 44)) {
		uint32_t length = next == 44 ? 8 : (ip[at + 1] + 1) * 8;

		next = ip[at];
		at += length;
	}
	*protocol = next;
	return at;
}

/* A UDP checksum of zero covers nothing, so that nobody compares a device's sum of such a packet either. */
static bool has_no_sum(const unsigned char *packet, uint32_t bytes)
{
	const unsigned char *ip = packet + ETHERNET;
	uint8_t protocol;
	uint32_t at = find_offset(ip, bytes - ETHERNET, &protocol);

	return bytes - ETHERNET >= at + 8 && !get16(ip + at + 6);
}

/* Are the packets alike but for IP addresses, the IPv4 checksum, the first four bytes of the transport header and its
 * checksum (which may be anywhere in its first twenty), and the same in what an ICMP error quotes? */
static bool same_but_ends(const unsigned char *one, const unsigned char *other, uint32_t bytes)
{
	bool ipv4 = one[0] >> 4 == 4;
	uint32_t addresses = ipv4 ? 10 : 8, after = ipv4 ? 20 : 40, at;
	uint8_t protocol;

	if (bytes < after || memcmp(one, other, addresses))
		return false;
	at = find_offset(one, bytes, &protocol);
	if (bytes < at + 4 || memcmp(one + after, other + after, at - after))
		return false;
	if (protocol == (ipv4 ? 1 : 58) && bytes > at + 8)
		return !memcmp(one + at + 4, other + at + 4, 4) &&
		       same_but_ends(one + at + 8, other + at + 8, bytes - at - 8);
	return bytes <= at + 20 || !memcmp(one + at + 20, other + at + 20, bytes - at - 20);
}

static void fill_random(unsigned char *to, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		to[i] = roll(256);
}

static void put_address(unsigned char *to, bool ipv4)
{
	if (!roll(20))
		fill_random(to, ipv4 ? 4 : 16);
	else if (ipv4)
		memcpy(to, places4[roll(many4)], 4);
	else
		memcpy(to, places6[roll(many6)], 16);
}

static void put_port(unsigned char *to)
{
	static const uint16_t ports[] = { 80, 443, 53, 8080, 30080, 30081, 40000, 40001, 40002 };

	put16(to, roll(10) ? ports[roll(sizeof(ports) / sizeof(*ports))] : roll(65536));
}

static uint32_t make_ip(unsigned char *ip, uint32_t room, int depth);

/* A transport header and what follows it; its bytes. */
static uint32_t make_transport(unsigned char *to, uint32_t room, uint8_t protocol, int depth)
{
	static const uint16_t lengths[] = { 0, 1, 2, 3, 7, 8, 20, 64, 200, 1200, 1400, 2600 };
	uint32_t payload = lengths[roll(roll(8) ? 9 : 12)], header = 8;

	if (protocol == 6)
		header = 20 + (roll(4) ? 0 : roll(11) * 4);
	else if (protocol == 132)
		header = 12;
	if (header + payload > room)
		payload = 0;
	fill_random(to, header + payload);
	if (protocol == 6 || protocol == 17 || protocol == 132) {
		put_port(to);
		put_port(to + 2);
	}
	if (protocol == 6) {
		static const unsigned char flags[] = { 2, 2, 2, 0x12, 0x10, 0x11, 4, 0x14, 0x18 };

		to[12] = header / 4 << 4;
		to[13] = roll(8) ? flags[roll(sizeof(flags))] : roll(256);
	} else if (protocol == 17) {
		put16(to + 4, header + payload);
	} else if (protocol == 1 || protocol == 58) {
		static const unsigned char types[] = { 0, 3, 4, 5, 8, 11, 12, 1, 2, 128, 129, 135, 136 };

		to[0] = types[roll(sizeof(types))];
		to[1] = roll(6);
		if (depth && roll(4) && room > 400)
			payload = make_ip(to + 8, 400, depth - 1);
	}
	return header + payload;
}

static void put_sum(unsigned char *transport, uint32_t bytes, uint8_t protocol, uint32_t pseudo)
{
	uint32_t at, sum;

	if (protocol == 132) {
		memset(transport + 8, 0, 4);
		sum = crc32c(transport, bytes);
		memcpy(transport + 8, &sum, 4);
		return;
	}
	if (protocol == 6)
		at = 16;
	else if (protocol == 17)
		at = 6;
	else if (protocol == 1 || protocol == 58)
		at = 2;
	else
		return;
	put16(transport + at, 0);
	if (protocol == 17 && !roll(16))
		return;
	sum = ~add_words(protocol == 1 ? 0 : pseudo, transport, bytes) & 0xffff;
	put16(transport + at, protocol == 17 && !sum ? 0xffff : sum);
}

static uint8_t roll_protocol(bool ipv4)
{
	static const uint8_t protocols[] = { 6, 6, 6, 17, 17, 17, 132, 132 };

	if (!roll(8))
		return ipv4 ? 1 : 58;
	return roll(24) ? protocols[roll(sizeof(protocols))] : roll(256);
}

static uint32_t make_ipv4(unsigned char *ip, uint32_t room, int depth)
{
	uint32_t header = 20 + (roll(6) ? 0 : roll(11) * 4), bytes;

	fill_random(ip, header);
	ip[0] = 0x40 | header / 4;
	put16(ip + 6, roll(12) ? 0x4000 : roll(65536));
	ip[8] = roll(10) ? 64 : roll(3);
	ip[9] = roll_protocol(true);
	put_address(ip + 12, true);
	put_address(ip + 16, true);
	bytes = make_transport(ip + header, room - header, ip[9], depth);
	put16(ip + 2, header + bytes);
	put_sum(ip + header, bytes, ip[9], add_words(bytes + ip[9], ip + 12, 8));
	put16(ip + 10, 0);
	put16(ip + 10, ~add_words(0, ip, header));
	return header + bytes;
}

static uint32_t make_ipv6(unsigned char *ip, uint32_t room, int depth)
{
	static const uint8_t extensions[] = { 0, 43, 60, 60, 44, 51, 59 };
	uint32_t at = 40, chain = roll(6) ? 0 : roll(8), bytes;
	unsigned char *next = ip + 6;
	uint8_t protocol = roll_protocol(false);

	fill_random(ip, 8);
	ip[0] = 0x60 | (ip[0] & 15);
	ip[7] = roll(10) ? 64 : roll(3);
	put_address(ip + 8, false);
	put_address(ip + 24, false);
	for (uint32_t i = 0; i < chain; i++) {
		uint8_t kind = extensions[roll(sizeof(extensions))];
		uint32_t length = kind == 44 ? 8 : 8 * (1 + (roll(3) ? 0 : roll(4)));

		fill_random(ip + at, length);
		*next = kind;
		next = ip + at;
		if (kind == 44 && roll(3))
			put16(ip + at + 2, roll(2)); /* not a later fragment */
		if (kind == 43 && roll(2))
			ip[at + 3] = 0;
		if (kind != 44)
			ip[at + 1] = length / 8 - 1;
		if (kind == 0 && roll(2)) { /* the jumbo payload option of BIG TCP */
			ip[at + 2] = 0xc2;
			ip[at + 3] = 4;
		}
		at += length;
	}
	*next = protocol;
	bytes = make_transport(ip + at, room - at, protocol, depth);
	put_sum(ip + at, bytes, protocol, add_words(bytes + protocol, ip + 8, 32));
	put16(ip + 4, roll(40) ? at - 40 + bytes : 0);
	return at + bytes;
}

static uint32_t make_ip(unsigned char *ip, uint32_t room, int depth)
{
	return roll(2) ? make_ipv4(ip, room, depth) : make_ipv6(ip, room, depth);
}

/* A packet that is right, or was before something happened to it; its bytes. */
static uint32_t make_packet(unsigned char *to)
{
	uint32_t bytes;

	fill_random(to, 12);
	if (!roll(50)) { /* garbage, of a kind that is looked at */
		bytes = ETHERNET + 1 + roll(200);
		fill_random(to + 12, bytes - 12);
		put16(to + 12, roll(8) ? (roll(2) ? 0x0800 : 0x86dd) : roll(65536));
		if (roll(2))
			to[ETHERNET] = (get16(to + 12) == 0x0800 ? 0x40 : 0x60) | roll(16);
		return bytes;
	}
	bytes = ETHERNET + make_ip(to + ETHERNET, PACKET_MAX - ETHERNET - 400, 1);
	put16(to + 12, to[ETHERNET] >> 4 == 4 ? 0x0800 : 0x86dd);
	if (roll(3))
		return bytes;
	switch (roll(5)) {
	case 0: /* cut */
		return ETHERNET + 1 + roll(bytes - ETHERNET);
	case 1: /* padded */
		fill_random(to + bytes, 60);
		return bytes + 1 + roll(60);
	case 2: /* the version is not what the link says */
		put16(to + 12, get16(to + 12) ^ (0x0800 ^ 0x86dd));
		return bytes;
	default: /* some bytes are others, most of them in the headers */
		for (uint32_t i = 1 + roll(4); i; i--)
			to[12 + roll(roll(4) ? (bytes - 12 < 80 ? bytes - 12 : 80) : bytes - 12)] = roll(256);
		return bytes;
	}
}
