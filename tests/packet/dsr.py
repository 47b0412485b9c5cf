# SPDX-License-Identifier: Apache-2.0
"""A node that balances in DSR mode and a node with a backend, and packets with the option that they exchange."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import HBHOptUnknown, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from kubypass.datapath import layout
from kubypass.model.address import parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.verdict import DsrDispatch, DsrRefusal, ServiceFlag
from tests.packet.lab import Lab
from tests.packet.packets import IN, V4, V6, Addresses, Flow, segment
from tests.packet.snat import empty

PORT, TARGET = 30080, 8080
OPTION_BYTES = {4: 8, 6: 24}
PEERS = {
    "10.233.65.0/24": False,
    "fd00:10:233:65::/64": False,
    f"{V4.other_node}/32": True,
    f"{V6.other_node}/128": True,
}
"""Networks and addresses of the other node: are they its own addresses?"""


FORGED: dict[str, Callable[[Addresses], tuple[str, str, int]]] = {
    "no frontend": lambda who: (who.client, who.service, 81),
    "not a service's address": lambda who: (who.client, who.second_pod, 80),
    "not a node's NodePort": lambda who: (who.client, who.remote_pod, PORT),
    "a service without DSR": lambda who: (who.client, who.service, 82),
    "not admitted": lambda who: (who.client, who.service, 83),
    "of a node": lambda who: (who.other_node, who.service, 80),
    "of a pod": lambda who: (who.remote_pod, who.service, 80),
    "of this node": lambda who: (who.node, who.service, 80),
}
"""Sender and frontend."""


def peers(lab: Lab, dispatch: DsrDispatch = DsrDispatch.OPTION, mtu: int = 0) -> None:
    for text, is_node in PEERS.items():
        cidr = parse_cidr(text)
        key = layout.Prefix(cidr.bits, cidr.network).pack()
        node = parse_address((V4 if cidr.family == 4 else V6).other_node)
        value = layout.DsrPeer(dispatch, int(is_node), mtu, node)
        lab.maps["dsr_peers"].update(key, value.pack())


def _node(netns: str, flags: int, dispatch: DsrDispatch, *, driver: bool) -> Lab:
    lab = empty(netns, dsr=1, tunnel=int(dispatch == DsrDispatch.GENEVE))
    lab.flags, lab.driver = flags, driver
    peers(lab, dispatch)
    return lab


def balancer(
    netns: str,
    flags: int,
    who: Addresses,
    protocol: str,
    dispatch: DsrDispatch = DsrDispatch.OPTION,
    *,
    driver: bool = False,
) -> Lab:
    """A node with a NodePort whose only backend is on the other node."""
    lab = _node(netns, flags, dispatch, driver=driver)
    lab.service(
        who.node, PORT, [who.remote_pod], protocol=protocol,
        flags=ServiceFlag.NODE_PORT | ServiceFlag.DSR, target=TARGET,
    )  # fmt: skip
    return lab


def backend(
    netns: str,
    flags: int,
    who: Addresses,
    protocol: str,
    dispatch: DsrDispatch = DsrDispatch.OPTION,
    *,
    driver: bool = False,
) -> Lab:
    """The node that has the backend of the other node's NodePort, and of a load balancer's address."""
    lab = _node(netns, flags, dispatch, driver=driver)
    for address, port, flag in (
        (who.other_node, PORT, ServiceFlag.NODE_PORT),
        (who.service, 80, ServiceFlag.LOAD_BALANCER),
    ):
        lab.service(
            address, port, [who.pod], protocol=protocol, flags=flag | ServiceFlag.DSR, target=TARGET
        )
    return lab


def option(frontend: tuple[str, int]) -> bytes:
    """The option, as captures show it."""
    address, port = frontend
    if ":" not in address:
        return struct.pack("!BBH4s", 0x9A, 8, port, socket.inet_aton(address))
    raw = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("!BB16sHH", 0x1B, 20, raw, port, 0)


def told(
    who: Addresses,
    flow: Flow,
    frontend: tuple[str, int],
    where: Mapping[str, Any] = IN,
    **more: Any,
) -> Packet:
    """The packet with the option; scapy makes lengths and checksums. `fast_open` is the cookie on a SYN."""
    cookie = more.pop("fast_open", None)
    packet = segment(who, flow, **{**more, **where})
    if cookie:
        packet[TCP].options = [(34, cookie)]
    return with_option(packet, option(frontend))


def with_option(packet: Packet, value: bytes) -> Packet:
    """The packet with this option in its IP header."""
    packet = packet.copy()
    if IP in packet:
        packet[IP].options = [IPOption(value)]
        del packet[IP].ihl, packet[IP].len, packet[IP].chksum
        return packet
    layer = TCP if TCP in packet else UDP
    transport = packet[layer].copy()
    packet[IPv6].remove_payload()
    kind, length = value[:2]
    unknown = HBHOptUnknown(otype=kind, optlen=length, optdata=value[2:])
    del packet[IPv6].plen, packet[IPv6].nh
    extension = IPv6ExtHdrDestOpt(options=[unknown], autopad=0)
    return packet / extension / transport


def refused(lab: Lab, why: DsrRefusal) -> int:
    """How many connections were masqueraded for this reason."""
    raw = lab.maps["dsr_refusals"].lookup(struct.pack("=I", why)) or b""
    return sum(struct.unpack(f"={len(raw) // 8}Q", raw))
