# SPDX-License-Identifier: Apache-2.0
"""Packets of DSR in Geneve, written from RFC 8926 and from captures of Cilium, not from bpf/geneve.h."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.packet.packets import TO_NETWORK, Addresses, Flow, segment

GENEVE_PORT = 6081
MTU = 1500
OVERHEAD = {4: 62, 6: 94}


def geneve(frontend: tuple[str, int], version: int) -> bytes:
    """The header of Geneve and its option."""
    address, port = frontend
    raw = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, address)
    value = raw + struct.pack("!HH", port, 0)
    words = len(value) // 4
    header = bytes([words + 1, 0x40]) + b"\x65\x58" + b"\x00\x00\x02\x00"
    return header + struct.pack("!HBB", 0x014B, 0x81, words) + value


def nowhere(version: int) -> tuple[str, int]:
    """What packets without ports name as their frontend."""
    return (socket.inet_ntop(socket.AF_INET, bytes(4)) if version == 4 else "::", 0)


def tunnelled(
    who: Addresses,
    inner: Packet,
    frontend: tuple[str, int],
    where: Mapping[str, Any] = TO_NETWORK,
    **more: Any,
) -> Packet:
    """The packet, without its Ethernet header, in the tunnel between two nodes. `sport` is the outer source port."""
    header = more.get("header", geneve(frontend, who.version))
    source, target = more.get("ends", (who.node, who.other_node))
    ip: Packet = who.ip(source, target)
    if who.version == 4:
        ip[IP].id, ip[IP].flags, ip[IP].tos = 0, "DF", more.get("tos", 0)
    else:
        ip[IPv6].tc = more.get("tos", 0)
    kind = struct.pack("!H", 0x0800 if who.version == 4 else 0x86DD)
    udp = UDP(sport=more.get("sport", 50000), dport=more.get("dport", GENEVE_PORT), chksum=0)
    frame = bytes(12) + kind + bytes(inner.payload)
    return Ether(src=where["smac"], dst=where["dmac"]) / ip / udp / (header + frame)


def outer_port(packet: bytes) -> int:
    """The source port of the outer datagram."""
    parsed = Ether(packet)
    assert parsed[UDP].dport == GENEVE_PORT
    return int(parsed[UDP].sport)


def cut(who: Addresses, flow: Flow, size: int = 1000, **where: object) -> list[Packet]:
    """The fragments of a datagram of 3000 bytes, as frames; `size` bytes are in each."""
    whole = segment(who, flow, protocol="UDP", payload="x" * 3000, **where)
    ethernet = Ether(src=whole.src, dst=whole.dst)
    if who.version == 4:
        return [ethernet / each for each in fragment(IP(bytes(whole.payload)), size)]
    ip = whole.payload
    transport = ip.payload
    ip.remove_payload()
    ip.plen = None
    parts = fragment6(ip / IPv6ExtHdrFragment(id=7) / transport, min(size + 100, MTU - 20))
    return [ethernet / each for each in parts]
