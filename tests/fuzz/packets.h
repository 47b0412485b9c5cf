/* SPDX-License-Identifier: Apache-2.0 */
/* Makes random packets: most are well-formed, and some of those are damaged
 * afterwards. */
#pragma once

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "checksums.h"

#define ADDRESSES_MAX 64

static const unsigned char device_mac[] = { 2, 0, 0, 0, 0x64, 1 }; /* NODE_MAC of tests/packet/packets.py */

static unsigned char addresses4[ADDRESSES_MAX][4], addresses6[ADDRESSES_MAX][16];
static unsigned int many4, many6;
static uint64_t dice;

static void seed_dice(uint64_t seed)
{
	dice = seed * 0x9e3779b97f4a7c15ULL + 1;
}

/* Returns a uniform number below `sides` (xorshift64*). */
static uint32_t roll(uint32_t sides)
{
	dice ^= dice >> 12;
	dice ^= dice << 25;
	dice ^= dice >> 27;
	return (uint32_t)(((dice * 0x2545f4914f6cdd1dULL) >> 32) * sides >> 32);
}

/* Reads one address a line, of either family. */
static void read_addresses(FILE *from)
{
	char line[64];

	while (fgets(line, sizeof(line), from)) {
		line[strcspn(line, "\n")] = 0;
		if (many4 < ADDRESSES_MAX && inet_pton(AF_INET, line, addresses4[many4]) == 1)
			many4++;
		else if (many6 < ADDRESSES_MAX && inet_pton(AF_INET6, line, addresses6[many6]) == 1)
			many6++;
	}
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
		memcpy(to, addresses4[roll(many4)], 4);
	else
		memcpy(to, addresses6[roll(many6)], 16);
}

static void put_port(unsigned char *to)
{
	static const uint16_t ports[] = { 80, 443, 53, 8080, 30080, 30081, 40000, 40001, 40002 };

	put16(to, roll(10) ? ports[roll(sizeof(ports) / sizeof(*ports))] : roll(65536));
}

static uint32_t make_ip(unsigned char *ip, uint32_t room, int depth);

/* Writes the option of DSR, which names a frontend: 8 bytes of an IPv4 header,
 * or an extension header of IPv6 but for its first byte. */
static void put_dsr_option(unsigned char *to, bool ipv4)
{
	static const unsigned char start4[] = { 0x9a, 8 }, start6[] = { 2, 0x1b, 20 };

	if (ipv4) {
		memcpy(to, start4, sizeof(start4));
		put_port(to + 2);
		put_address(to + 4, true);
		return;
	}
	memcpy(to + 1, start6, sizeof(start6));
	put_address(to + 4, false);
	put_port(to + 20);
}

/* Writes a transport header and a payload; returns the number of bytes. */
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
	bool dsr = !roll(6);
	uint32_t header = dsr ? 28 : 20 + (roll(6) ? 0 : roll(11) * 4), bytes;

	fill_random(ip, header);
	if (dsr)
		put_dsr_option(ip + 20, true);
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
			put16(ip + at + 2, roll(2)); /* a first fragment, or no fragment */
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
	if (!roll(6)) {
		*next = 60;
		next = ip + at;
		fill_random(ip + at, 24);
		put_dsr_option(ip + at, false);
		at += 24;
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

/* Writes a correct packet, or a damaged one; returns the number of bytes. */
static uint32_t make_packet(unsigned char *to)
{
	uint32_t bytes;

	fill_random(to, 12);
	if (roll(16)) /* otherwise it is for another host */
		memcpy(to, device_mac, sizeof(device_mac));
	if (!roll(50)) { /* random bytes that claim to be IP */
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
	case 0: /* truncated */
		return ETHERNET + 1 + roll(bytes - ETHERNET);
	case 1: /* padded */
		fill_random(to + bytes, 60);
		return bytes + 1 + roll(60);
	case 2: /* the IP version is not that of the ethertype */
		put16(to + 12, get16(to + 12) ^ (0x0800 ^ 0x86dd));
		return bytes;
	default: /* a few bytes are changed, most of them in the headers */
		for (uint32_t i = 1 + roll(4); i; i--)
			to[12 + roll(roll(4) ? (bytes - 12 < 80 ? bytes - 12 : 80) : bytes - 12)] = roll(256);
		return bytes;
	}
}
