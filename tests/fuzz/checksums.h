/* SPDX-License-Identifier: Apache-2.0 */
/* Reads packets and says whether their checksums are right: an independent
 * reading of the same RFCs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PACKET_MAX 3072
#define ETHERNET 14

enum sum { SUM_UNKNOWN, SUM_RIGHT, SUM_WRONG, SUM_NONE };

struct sums {
	enum sum ip, transport, quoted; /* `quoted` is the IP header inside an ICMP error */
};

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

/* The transport of a whole packet and what its checksum covers; `bytes` is 0 if
 * that is unknown. */
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

/* Returns the offset of the transport header from that of IP. It needs readable
 * headers, not a whole packet. */
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

/* A UDP checksum of zero covers nothing, so nothing compares a device's sum of
 * such a packet. */
static bool has_no_sum(const unsigned char *packet, uint32_t bytes)
{
	const unsigned char *ip = packet + ETHERNET;
	uint8_t protocol;
	uint32_t at = find_offset(ip, bytes - ETHERNET, &protocol);

	return bytes - ETHERNET >= at + 8 && !get16(ip + at + 6);
}

/* Returns the bytes of the option of DSR right behind the IP header, 0 where
 * there is none or anything beside it. */
static uint32_t dsr_option_bytes(const unsigned char *packet, uint32_t bytes)
{
	const unsigned char *ip = packet + ETHERNET;

	if (bytes >= ETHERNET + 28 && get16(packet + 12) == 0x0800)
		return ip[0] == 0x47 && ip[20] == 0x9a && ip[21] == 8 ? 8 : 0;
	if (bytes < ETHERNET + 64 || get16(packet + 12) != 0x86dd)
		return 0;
	return ip[0] >> 4 == 6 && ip[6] == 60 && ip[41] == 2 && ip[42] == 0x1b && ip[43] == 20 ? 24 : 0;
}

/* Are the packets alike but for IP addresses, the IPv4 checksum, the first four
 * bytes of the transport header and its checksum (which may be anywhere in its
 * first twenty), and the same in what an ICMP error quotes? */
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
