# SPDX-License-Identifier: Apache-2.0
"""Packets with other headers: some behind the IP header, or another length in it."""

from __future__ import annotations

import struct

from scapy.layers.inet import IP
from scapy.packet import Packet


def between(packet: Packet, *headers: Packet) -> Packet:
    """The packet with headers behind its IP header."""
    transport = packet.payload.payload
    packet.payload.remove_payload()
    for header in headers:
        packet = packet / header
    return packet / transport


def bare(packet: bytes, *, length: int) -> bytes:
    """The frame with another length in its IP header, and the checksum for that."""
    if packet[12:14] == b"\x86\xdd":
        return packet[:18] + struct.pack(">H", length) + packet[20:]
    ip = IP(packet[14:])
    ip.len = length
    del ip.chksum
    return packet[:14] + bytes(ip)
