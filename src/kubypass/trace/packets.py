# SPDX-License-Identifier: Apache-2.0
"""Packets for test runs: Ethernet, IPv4 (RFC 791) or IPv6 (RFC 8200), TCP, UDP or SCTP, with correct checksums."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from kubypass.model.address import Address, is_ipv4
from kubypass.model.internet_checksum import internet_checksum
from kubypass.model.protocol import Protocol
from kubypass.trace.tunnel import inside_tunnel

SYN: Final = 0x02
SYN_ACK: Final = 0x12
_TTL = 64
_ETHERNET = 14
_DESTINATION_OPTIONS = 60
_MAC = bytes.fromhex("024b50000001")
_ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
_PAYLOAD = b"kubypass"
_CRC32C = 0x82F63B78


@dataclass(frozen=True, slots=True)
class Flow:
    """Addresses, ports and protocol of a connection, as its client sends; ports in host order."""

    source: Address
    source_port: int
    destination: Address
    destination_port: int
    protocol: Protocol

    def reply(self) -> Flow:
        """The opposite direction."""
        return Flow(
            self.destination, self.destination_port, self.source, self.source_port, self.protocol
        )


def build(flow: Flow, *, reply: bool = False) -> bytes:
    """Builds the first packet of a flow. `reply` makes it the first answer, which differs in TCP only."""
    if flow.protocol == Protocol.TCP:
        flags = SYN_ACK if reply else SYN
        head = struct.pack(
            "!HHIIBBHHH", flow.source_port, flow.destination_port, 1, 0, 0x50, flags, 65535, 0, 0
        )
        transport, at = head, 16
    elif flow.protocol == Protocol.UDP:
        length = 8 + len(_PAYLOAD)
        head = struct.pack("!HHHH", flow.source_port, flow.destination_port, length, 0)
        transport, at = head + _PAYLOAD, 6
    else:
        transport, at = struct.pack("!HHII", flow.source_port, flow.destination_port, 0, 0), 8
    if flow.protocol == Protocol.SCTP:
        transport = transport[:at] + _crc32c(transport).to_bytes(4, "little")
    else:
        sum_ = internet_checksum(_pseudo_header(flow, len(transport)) + transport) or 0xFFFF
        transport = transport[:at] + struct.pack("!H", sum_) + transport[at + 2 :]
    version = 4 if is_ipv4(flow.source) else 6
    return _MAC + _MAC + _ETHERTYPES[version] + _header(flow, len(transport), version) + transport


def read(packet: bytes) -> Flow:
    """Reads addresses and ports, behind an option of DSR or inside of its tunnel."""
    packet = inside_tunnel(packet)
    if packet[12:14] == _ETHERTYPES[4]:
        prefix = bytes(10) + b"\xff\xff"
        source, destination = prefix + packet[26:30], prefix + packet[30:34]
        protocol, at = packet[23], _ETHERNET + 4 * (packet[14] & 15)
    else:
        source, destination = packet[22:38], packet[38:54]
        protocol, at = packet[20], _ETHERNET + 40
        if protocol == _DESTINATION_OPTIONS:
            protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
    ports = struct.unpack_from("!HH", packet, at)
    return Flow(Address(source), ports[0], Address(destination), ports[1], Protocol(protocol))


def _header(flow: Flow, length: int, version: int) -> bytes:
    if version == 6:
        start = struct.pack("!IHBB", 6 << 28, length, flow.protocol, _TTL)
        return start + flow.source + flow.destination
    start = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, _TTL, flow.protocol, 0)
    header = start + flow.source[12:] + flow.destination[12:]
    return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:]


def _pseudo_header(flow: Flow, length: int) -> bytes:
    """RFC 9293 section 3.1, RFC 8200 section 8.1. The prefix of IPv4-mapped addresses is not part of it."""
    if is_ipv4(flow.source):
        return (
            flow.source[12:] + flow.destination[12:] + struct.pack("!BBH", 0, flow.protocol, length)
        )
    return flow.source + flow.destination + struct.pack("!II", length, flow.protocol)


def _crc32c(data: bytes) -> int:
    """RFC 9260 appendix A, bit by bit: it is computed over a few bytes only."""
    sum_ = 0xFFFFFFFF
    for byte in data:
        sum_ ^= byte
        for _ in range(8):
            sum_ = sum_ >> 1 ^ (_CRC32C if sum_ & 1 else 0)
    return sum_ ^ 0xFFFFFFFF
