# SPDX-License-Identifier: Apache-2.0
"""The ICMP errors that the programs send themselves."""

from __future__ import annotations

import os

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.model.verdict import Verdict
from tests.packet.lab import REDIRECT, Lab, Result
from tests.packet.packets import Addresses

MTU = 1400
"""The MTU of the routes to what is behind something narrow."""


def answer(who: Addresses, source: str, sent: Packet, message: Packet) -> bytes:
    """The error about a frame, of which it quotes as much as every host takes."""
    room = 576 - 28 if who.version == 4 else 1280 - 48
    ip = who.ip(source, sent.payload.src, 64)
    if who.version == 4:
        ip.id = 0
    return bytes(Ether(src=sent.dst, dst=sent.src) / ip / message / bytes(sent.payload)[:room])


def too_big(who: Addresses, mtu: int = MTU) -> Packet:
    """Linux before 5.12 does not tell programs what would fit: then it is what fits everywhere."""
    if [int(number) for number in os.uname().release.split(".")[:2]] < [5, 12]:
        mtu = 576 if who.version == 4 else 1280
    return ICMP(type=3, code=4, nexthopmtu=mtu) if who.version == 4 else ICMPv6PacketTooBig(mtu=mtu)


def expired(who: Addresses) -> Packet:
    return ICMP(type=11) if who.version == 4 else ICMPv6TimeExceeded()


def unreachable(who: Addresses) -> Packet:
    return ICMP(type=3, code=3) if who.version == 4 else ICMPv6DestUnreach(code=4)


def told(result: Result, verdict: Verdict, packet: bytes) -> None:
    assert [found for _, found in result.counted] == [verdict]
    assert (result.code, result.packet) == (REDIRECT, packet)


def plain(lab: Lab) -> None:
    """Packets lose a device's sum when they are trimmed, which test run takes for a wrong one."""
    lab.flags = 0
