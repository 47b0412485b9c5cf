/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* SCTP's checksum (RFC 9260 appendix A) after a change of its ports. The CRC is linear: what the change adds to the
 * sum is the CRC of the difference, moved past the bytes that follow. So the packet is not read. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */
#define CRC32C_X8 0x00800000u /* x^8: multiplying by it moves a sum past a byte of zeros */

/* a * b modulo the polynomial; bit 31 is x^0. Not static, so that the verifier looks at it once and not for each way
 * that leads here. */
__noinline __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 31; i >= 0; i--) {
		product ^= b & -(a >> i & 1);
		b = b >> 1 ^ (CRC32C_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* What has to be XORed to the checksum of `bytes` bytes when `difference` is XORed to the first four of them, as they
 * are in memory. Not static for the same reason. */
__noinline __u32 crc32c_change(__u32 difference, __u32 bytes)
{
	__u32 sum = difference, power = CRC32C_X8;

	for (int i = 0; i < 32; i++)
		sum = sum >> 1 ^ (CRC32C_POLYNOMIAL & -(sum & 1));
	bytes -= sizeof(difference);
	for (int k = 0; k < 16; k++) {
		__u32 moved = crc32c_multiply(power, sum), bit = -(bytes >> k & 1);

		sum = (moved & bit) | (sum & ~bit);
		power = crc32c_multiply(power, power);
	}
	return sum;
}
