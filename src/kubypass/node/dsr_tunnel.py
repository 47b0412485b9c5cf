# SPDX-License-Identifier: Apache-2.0
"""Datagrams in Geneve with the option of DSR, as bpf/geneve.h has them, for the probes.

The option names no frontend (port 0): the other node's programs take the datagram out, and its agent gets it.
"""

from __future__ import annotations

import struct
from typing import Final

from kubypass.model.address import Address, AddressPort, family
from kubypass.model.internet_checksum import internet_checksum

GENEVE_PORT: Final = 6081
_CRITICAL, _ETHERNET, _WORLD = 0x40, 0x6558, 2 << 8
_OPTION: Final = (0x014B, 0x81)
_UDP, _DO_NOT_FRAGMENT, _HOPS = 17, 0x4000, 64


def in_geneve(data: bytes, source: AddressPort, target: AddressPort) -> bytes:
    """What a datagram to the port of Geneve holds, so that `data` arrives at `target`."""
    packet, ethertype, address_bytes = (
        (_ipv4(data, source, target), 0x0800, 4)
        if family(source[0]) == 4
        else (_ipv6(data, source, target), 0x86DD, 16)
    )
    words = address_bytes // 4 + 1
    header = struct.pack("!BBHI", words + 1, _CRITICAL, _ETHERNET, _WORLD)
    option = struct.pack("!HBB", *_OPTION, words) + bytes(4 * words)
    return header + option + bytes(12) + struct.pack("!H", ethertype) + packet


def _ipv4(data: bytes, source: AddressPort, target: AddressPort) -> bytes:
    ends = source[0][12:] + target[0][12:]
    length = 28 + len(data)
    fields = (0x45, 0, length, 0, _DO_NOT_FRAGMENT, _HOPS, _UDP)
    check = internet_checksum(struct.pack("!BBHHHBBH", *fields, 0) + ends)
    return struct.pack("!BBHHHBBH", *fields, check) + ends + _udp(data, source, target, ends)


def _ipv6(data: bytes, source: AddressPort, target: AddressPort) -> bytes:
    ends = source[0] + target[0]
    header = struct.pack("!IHBB", 6 << 28, 8 + len(data), _UDP, _HOPS)
    return header + ends + _udp(data, source, target, ends)


def _udp(data: bytes, source: AddressPort, target: AddressPort, ends: Address | bytes) -> bytes:
    """The datagram; IPv4's and IPv6's pseudo headers have the same sum."""
    length = 8 + len(data)
    head = struct.pack("!HHH", source[1], target[1], length)
    check = internet_checksum(ends + struct.pack("!HH", length, _UDP) + head + data)
    return head + struct.pack("!H", check or 0xFFFF) + data
