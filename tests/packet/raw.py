# SPDX-License-Identifier: Apache-2.0
"""Packets without Scapy, which takes a millisecond for each: made, taken apart, and all their checksums verified."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, replace
from typing import Any

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
DESTINATION_OPTIONS = 60
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
ETHERNET_BYTES = 14
_TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_FLAGS = {"F": 1, "S": 2, "R": 4, "A": 16}


@dataclass(frozen=True)
class Segment:
    """One packet of a connection; addresses as text."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: int
    flags: str = "S"
    ttl: int = 64
    macs: tuple[str, str] = ("02:00:00:00:64:01", "02:00:00:00:64:14")
    """Destination and source."""
    identifier: int = 5
    """It tells echo requests apart."""
    payload: bytes = b"hello"
    named: tuple[str, int] | None = None
    """The frontend that the option of DSR names."""

    @property
    def version(self) -> int:
        """The version of IP."""
        return 6 if ":" in self.source else 4

    def changed(self, **fields: Any) -> Segment:
        """A copy of the packet with other fields."""
        return replace(self, **fields)

    def pack(self) -> bytes:
        """The packet as it is on the wire."""
        transport = self._transport()
        macs = b"".join(bytes.fromhex(mac.replace(":", "")) for mac in self.macs)
        return macs + _TYPES[self.version] + self._ip(len(transport)) + transport

    def _ip(self, length: int) -> bytes:
        ends, more = packed(self.source) + packed(self.destination), self._option()
        length += len(more)
        if self.version == 6:
            following = DESTINATION_OPTIONS if more else self.protocol
            return struct.pack("!IHBB", 6 << 28, length, following, self.ttl) + ends + more
        words = 0x45 + len(more) // 4
        first = struct.pack("!BBHHHBB", words, 0, 20 + length, 7, 0, self.ttl, self.protocol)
        return first + struct.pack("!H", checksum(first + ends + more)) + ends + more

    def _option(self) -> bytes:
        if not self.named:
            return b""
        address, port = packed(self.named[0]), self.named[1]
        if self.version == 4:
            return struct.pack("!BBH", 0x9A, 8, port) + address
        return (
            struct.pack("!BBBB", self.protocol, 2, 0x1B, 20) + address + struct.pack("!HH", port, 0)
        )

    def _transport(self) -> bytes:
        ports, payload = (self.source_port, self.destination_port), self.payload
        if self.protocol == SCTP:
            chunk = struct.pack("!BBH", 0, 3, 16 + len(payload)) + bytes(12) + payload
            chunk += bytes(-len(chunk) % 4)
            empty = struct.pack("!HHII", *ports, 77, 0) + chunk
            return empty[:8] + struct.pack("<I", crc32c(empty)) + empty[12:]
        if self.protocol == TCP:
            flags = sum(_FLAGS[flag] for flag in self.flags)
            head = struct.pack("!HHIIBBHHH", *ports, 100, 0, 0x50, flags, 8192, 0, 0)
            at = 16
        elif self.protocol == UDP:
            head = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
            at = 6
        else:
            kind = 8 if self.protocol == ICMP else 128
            head, at = struct.pack("!BBHHH", kind, 0, 0, self.identifier, 1), 2
        body = head + payload
        pseudo = b"" if self.protocol == ICMP else self._pseudo(len(body))
        total = checksum(pseudo + body)
        if self.protocol == UDP and not total:
            total = 0xFFFF
        return body[:at] + struct.pack("!H", total) + body[at + 2 :]

    def _pseudo(self, length: int) -> bytes:
        ends = packed(self.source) + packed(self.destination)
        if self.version == 4:
            return ends + struct.pack("!BBH", 0, self.protocol, length)
        return ends + struct.pack("!IHBB", length, 0, 0, self.protocol)


def packed(address: str) -> bytes:
    """The address in network order, of either family."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def text(address: bytes) -> str:
    """Canonical."""
    return socket.inet_ntop(socket.AF_INET6 if len(address) == 16 else socket.AF_INET, address)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """RFC 9260 appendix A."""
    total = 0xFFFFFFFF
    for byte in data:
        total = total >> 8 ^ _CRC[(total ^ byte) & 0xFF]
    return total ^ 0xFFFFFFFF


@dataclass(frozen=True)
class Ends:
    """Addresses and ports of a packet, as far as it has them."""

    source: str
    source_port: int
    destination: str
    destination_port: int


def identifier(packet: bytes) -> int:
    """The identifier of an echo request."""
    at = ETHERNET_BYTES + (20 if packet[12:14] == _TYPES[4] else 40)
    return int.from_bytes(packet[at + 4 : at + 6], "big")


def ends(packet: bytes) -> Ends:
    """The addresses and ports of a packet with no options or extension headers but that of DSR."""
    data = packet[ETHERNET_BYTES:]
    if packet[12:14] == _TYPES[4]:
        source, destination, rest = data[12:16], data[16:20], data[4 * (data[0] & 15) :]
    else:
        source, destination, rest = data[8:24], data[24:40], data[40:]
        rest = rest[24:] if data[6] == DESTINATION_OPTIONS else rest
    ports = struct.unpack_from("!HH", rest)
    return Ends(text(source), ports[0], text(destination), ports[1])


def check_unreachable(answer: bytes, question: bytes) -> None:
    """The answer is an ICMP or ICMPv6 "port unreachable" to the question, with nothing wrong about it."""
    macs = question[6:12] + question[:6]
    assert answer[:14] == macs + question[12:14], "goes back where the packet came from"
    data, asked = answer[ETHERNET_BYTES:], question[ETHERNET_BYTES:]
    if question[12:14] == _TYPES[4]:
        header, body, least = data[:20], data[20:], 28
        version, _, length, _, _, ttl, protocol = struct.unpack_from("!BBHHHBB", header)
        assert (version, length, ttl, protocol) == (0x45, len(data), 64, ICMP)
        assert header[12:] == asked[16:20] + asked[12:16], "from the address that was asked"
        assert checksum(header) == 0
        assert checksum(body) == 0
        kind = b"\x03\x03"
    else:
        header, body, least = data[:40], data[40:], 48
        word, length, protocol, ttl = struct.unpack_from("!IHBB", header)
        assert (word >> 28, length, protocol, ttl) == (6, len(body), ICMPV6, 64)
        assert header[8:] == asked[24:40] + asked[8:24], "from the address that was asked"
        assert checksum(header[8:] + struct.pack("!IHBB", len(body), 0, 0, ICMPV6) + body) == 0
        kind = b"\x01\x04"
    assert body[:2] == kind
    assert body[4:8] == bytes(4)
    quoted = body[8:]
    assert len(quoted) >= least
    assert quoted == asked[: len(quoted)], "quotes the packet as it came"
