# SPDX-License-Identifier: Apache-2.0
"""Sends one TCP segment that belongs to no window: stray_segment.py SOURCE PORT DESTINATION PORT."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys

ACK = 0x10
source, destination = sys.argv[1], sys.argv[3]
ports = int(sys.argv[2]), int(sys.argv[4])
payload = b"nobody asked"
header = struct.pack("!HHIIBBHHH", *ports, 0x12345678, 0x23456789, 5 << 4, ACK, 1000, 0, 0)


def checksum(data: bytes) -> int:
    """RFC 1071, of a packet with an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


both = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
length = len(header) + len(payload)
summed = checksum(both + struct.pack("!II", length, socket.IPPROTO_TCP) + header + payload)
segment = header[:16] + struct.pack("!H", summed) + header[18:] + payload
family = socket.AF_INET6 if ":" in source else socket.AF_INET
with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
    raw.sendto(segment, (destination, 0))
