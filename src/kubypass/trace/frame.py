# SPDX-License-Identifier: Apache-2.0
"""What a captured packet says of itself: as an Ethernet frame, and in words. Any bytes are allowed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from kubypass.model.address import in_brackets
from kubypass.model.protocol import Protocol
from kubypass.trace.capture import ETHERNET, Record

_ETHERNET_BYTES = 14
_NO_MACS = bytes(12)
_IPV4, _IPV6 = 0x0800, 0x86DD
_RAW = {12, 14, 101, 228, 229}
"""LINKTYPE_RAW under its numbers, LINKTYPE_IPV4 and LINKTYPE_IPV6: no link header."""
_FAMILY_HEAD = {0, 108}
"""LINKTYPE_NULL and LINKTYPE_LOOP: four bytes that name the family."""
_COOKED = {113: (14, 16), 276: (0, 20)}
"""LINKTYPE_LINUX_SLL and its second version: where the EtherType is, and where the packet begins."""
_EXTENSIONS = {0, 43, 60}
"""IPv6: hop-by-hop options, routing header, destination options (RFC 8200)."""
_FRAGMENT = 44
_NAMES = {1: "ICMP", 58: "ICMPv6", 2: "IGMP", 47: "GRE", 50: "ESP", 4: "IPIP", 41: "IPv6"}
_NAMES |= {int(protocol): protocol.name for protocol in Protocol}
_WITH_PORTS = set(map(int, Protocol))


@dataclass(frozen=True, slots=True)
class Ends:
    """Who sends a packet to whom. A port is 0 where the protocol, or the fragment, has none."""

    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int

    def reply(self) -> Ends:
        """The opposite direction."""
        return Ends(
            self.protocol, self.destination, self.destination_port, self.source, self.source_port
        )

    def __str__(self) -> str:
        return f"{_with_port(self.source, self.source_port)} -> {_with_port(self.destination, self.destination_port)}"


def ethernet_frame(record: Record) -> bytes | None:
    """The packet as an Ethernet frame of its whole length; what a capture cut off is zeros. None for other links."""
    data = record.data + bytes(min(record.length, 1 << 16) - len(record.data))
    kind = record.link_type
    if kind == ETHERNET:
        return data
    if kind in _COOKED:
        at, start = _COOKED[kind]
        return _NO_MACS + data[at : at + 2].ljust(2, b"\0") + data[start:]
    if kind in _RAW or kind in _FAMILY_HEAD:
        packet = data[4:] if kind in _FAMILY_HEAD else data
        version = packet[0] >> 4 if packet else 0
        return _NO_MACS + struct.pack("!H", _IPV6 if version == 6 else _IPV4) + packet
    return None


def read_ends(frame: bytes) -> Ends | None:
    """Reads addresses and ports behind options, extension headers and VLAN tags; None without a whole IP header."""
    at = _ETHERNET_BYTES
    try:
        kind = struct.unpack_from("!H", frame, at - 2)[0]
        while kind in {0x8100, 0x88A8}:
            kind = struct.unpack_from("!H", frame, at + 2)[0]
            at += 4
        if kind == _IPV4:
            return _read_ipv4(frame, at)
        return _read_ipv6(frame, at) if kind == _IPV6 else None
    except (struct.error, IndexError):
        return None


def _read_ipv4(frame: bytes, at: int) -> Ends:
    head = struct.unpack_from("!BBHHHBBH4s4s", frame, at)
    later = bool(head[4] & 0x1FFF)
    source, destination = str(IPv4Address(head[8])), str(IPv4Address(head[9]))
    return _with_ports(frame, at + 4 * (head[0] & 15), head[6], source, destination, later=later)


def _read_ipv6(frame: bytes, at: int) -> Ends:
    _, _, kind, _, source, destination = struct.unpack_from("!IHBB16s16s", frame, at)
    at, later = at + 40, False
    while (kind in _EXTENSIONS or kind == _FRAGMENT) and not later:
        later = kind == _FRAGMENT and bool(struct.unpack_from("!H", frame, at + 2)[0] & 0xFFF8)
        length = 8 if kind == _FRAGMENT else 8 + 8 * frame[at + 1]
        kind, at = frame[at], at + length
    return _with_ports(
        frame, at, kind, str(IPv6Address(source)), str(IPv6Address(destination)), later=later
    )


def _with_ports(
    frame: bytes, at: int, protocol: int, source: str, destination: str, *, later: bool
) -> Ends:
    """`later` is a fragment after the first one: it has no ports."""
    name = _NAMES.get(protocol, f"protocol {protocol}")
    ports = (0, 0)
    if protocol in _WITH_PORTS and not later and len(frame) >= at + 4:
        ports = struct.unpack_from("!HH", frame, at)
    return Ends(name, source, ports[0], destination, ports[1])


def _with_port(address: str, port: int) -> str:
    return f"{in_brackets(address)}:{port}" if port else address
