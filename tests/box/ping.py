# SPDX-License-Identifier: Apache-2.0
"""Pings an address with a payload of some bytes; one line says who has answered: reply, or the type of an error."""

from __future__ import annotations

import socket
import struct
import sys

from kubypass_lab.box.patience import ANSWER_S

address, size, ttl = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ipv6 = ":" in address
NUMBER = 4242
echo, reply = (128, 129) if ipv6 else (8, 0)


def with_checksum(message: bytes) -> bytes:
    """IPv6's checksum is the kernel's to write."""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return message[:2] + struct.pack("!H", total) + message[4:]


def heard(data: bytes) -> str:
    """What a message says to us, empty for others."""
    message = data if ipv6 else data[(data[0] & 15) * 4 :]
    kind, number = message[0], struct.unpack("!H", message[4:6])[0]
    if kind == reply:
        return "reply" if number == NUMBER and len(message) == 8 + size else ""
    if kind in {echo, 133, 134, 135, 136, 143}:
        return ""
    quoted = message[8:]
    at = 40 if ipv6 else (quoted[0] & 15) * 4
    return f"error {kind}" if struct.unpack("!H", quoted[at + 4 : at + 6])[0] == NUMBER else ""


family, protocol = (
    (socket.AF_INET6, socket.IPPROTO_ICMPV6) if ipv6 else (socket.AF_INET, socket.IPPROTO_ICMP)
)
with socket.socket(family, socket.SOCK_RAW, protocol) as opened:
    opened.settimeout(ANSWER_S)
    level, option = (
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        if ipv6
        else (socket.IPPROTO_IP, socket.IP_TTL)
    )
    opened.setsockopt(level, option, ttl)
    message = struct.pack("!BBHHH", echo, 0, 0, NUMBER, 1) + b"x" * size
    opened.sendto(message if ipv6 else with_checksum(message), (address, 0))
    while not (what := heard((got := opened.recvfrom(65536))[0])):
        pass
print(what, got[1][0].split("%")[0])
