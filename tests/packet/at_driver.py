# SPDX-License-Identifier: Apache-2.0
"""A client's packets to a NodePort, and who has handled them: XDP, or from_uplink behind it."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Packet

from kubypass.model.verdict import Hook
from tests.packet.lab import Lab, Result
from tests.packet.packets import IN, Addresses, segment


def request(who: Addresses, **options: Any) -> Packet:
    """A client's packet to the NodePort."""
    return segment(who, (who.client, 40000, who.node, 30080), **{**IN, **options})


def by_driver(lab: Lab, packet: Packet | bytes) -> Result:
    """The packet's result, which has to be XDP's."""
    before = lab.counts()
    result = lab.run("from_uplink", packet)
    after = lab.counts()
    after.subtract(before)
    assert result.driver_code, result.counted
    assert {hook for hook, _ in +after} == {Hook.XDP}
    return result


def by_uplink(lab: Lab, packet: Packet | bytes) -> Result:
    """The packet's result, which has to be from_uplink's; `run` sees that XDP has neither changed nor counted it."""
    result = lab.run("from_uplink", packet)
    assert not result.driver_code
    assert {hook for hook, _ in result.counted} == {Hook.FROM_UPLINK}
    return result


def without_checksum(sent: Packet) -> bytes:
    """The packet as a namespace of the same host sends it, with a checksum that is left to a device."""
    packet = bytearray(bytes(sent))
    at, addresses = (34, packet[26:34]) if IP in sent else (54, packet[22:54])
    number = 6 if TCP in sent else 17 if UDP in sent else 132
    pseudo = bytes(addresses) + (len(packet) - at).to_bytes(4, "big") + number.to_bytes(4, "big")
    words = sum(int.from_bytes(pseudo[i : i + 2], "big") for i in range(0, len(pseudo), 2))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    place = {6: at + 16, 17: at + 6}.get(number)
    if place:
        packet[place : place + 2] = words.to_bytes(2, "big")
    else:
        packet[at + 8 : at + 12] = bytes(4)
    return bytes(packet)
