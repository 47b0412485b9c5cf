# SPDX-License-Identifier: Apache-2.0
"""Pods that reach the outside with an address of the node: what the maps hold, and echo messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.datapath.local_addresses import uplink_entry
from kubypass.model.address import parse_address
from kubypass.model.verdict import InsideReason
from tests.packet.lab import Lab
from tests.packet.packets import V4, V6, Addresses
from tests.packet.snat import empty
from tests.packet.uplink import uplink_index

INSIDE = {
    "10.233.64.0/18": InsideReason.NATIVE,
    "fd00:10:233::/48": InsideReason.PODS,
    f"{V4.node}/32": InsideReason.NODE,
    f"{V4.other_node}/32": InsideReason.NODE,
    f"{V6.node}/128": InsideReason.NODE,
    f"{V6.other_node}/128": InsideReason.NODE,
    "198.51.100.0/24": InsideReason.AGENT,
    "2001:db8:1::/48": InsideReason.AGENT,
}
"""What pods reach with their own addresses."""


def outside(netns: str, **constants: Any) -> Lab:
    """A lab whose pods are masqueraded."""
    lab = empty(netns, **{"masquerade": 3, **constants})
    lab.flags = 0
    lab.put_inside(INSIDE)
    uplink(lab, uplink_index(), V4.node, V6.node)
    return lab


def uplink(lab: Lab, index: int, *addresses: str) -> None:
    """An uplink, with one address of each family; without any, the device is none."""
    (item,) = uplink_entry(
        index, {4 if "." in a else 6: parse_address(a) for a in addresses}
    ).items()
    lab.maps["uplinks"].update(*item)
    if not addresses:
        lab.maps["uplinks"].delete(item[0])


def echo(
    who: Addresses,
    source: str,
    destination: str,
    number: int,
    where: Mapping[str, Any],
    *,
    reply: bool = False,
    payload: bytes = b"are you there?",
) -> Packet:
    """An echo message with this identifier, as a frame."""
    message: Packet
    if who.version == 4:
        message = ICMP(type=0 if reply else 8, id=number, seq=3)
    else:
        message = (ICMPv6EchoReply if reply else ICMPv6EchoRequest)(id=number, seq=3)
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    return ethernet / who.ip(source, destination, where["ttl"]) / message / payload
