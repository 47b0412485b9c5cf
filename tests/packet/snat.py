# SPDX-License-Identifier: Apache-2.0
"""A NodePort whose only backend is elsewhere, its clients and the source ports that they get."""

from __future__ import annotations

import ipaddress
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from kubypass.datapath import layout
from kubypass.model.address import parse_address
from kubypass.model.verdict import FlowDirection, ServiceFlag
from tests.packet.lab import NUMBERS, REDIRECT, SHOT, Lab, config
from tests.packet.map_entries import note_ports
from tests.packet.packets import Addresses, segment

NODE_PORT = 30080
FOREVER_NS = 1 << 62


LOADED: dict[layout.Config, Lab] = {}


def empty(netns: str, **constants: Any) -> Lab:
    """Programs with these constants, loaded once; a session has one network namespace."""
    wanted = config(**constants)
    if wanted not in LOADED:
        LOADED[wanted] = Lab(netns)
        LOADED[wanted].load(wanted, flows=65536)
    LOADED[wanted].reset()
    return LOADED[wanted]


def made(netns: str, who: Addresses, protocol: str = "TCP", **constants: Any) -> Lab:
    """A NodePort with one backend elsewhere."""
    lab = empty(netns, **constants)
    lab.service(
        who.node, NODE_PORT, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT
    )
    return lab


def clients(who: Addresses, count: int) -> list[str]:
    first = ipaddress.ip_address("198.18.0.1" if who.version == 4 else "2001:db8:bee::1")
    return [str(first + number) for number in range(count)]


def tuple_of(packet: bytes) -> tuple[str, int, str, int]:
    parsed = (IP if packet[12:14] == b"\x08\x00" else IPv6)(packet[14:])
    layer = parsed[TCP] if TCP in parsed else parsed[UDP]
    return parsed.src, layer.sport, parsed.dst, layer.dport


def ask(lab: Lab, who: Addresses, client: tuple[str, int], **options: Any) -> int:
    """A client's packet to the NodePort; its source port towards the backend, 0 if it was dropped."""
    result = lab.run("from_uplink", segment(who, (*client, who.node, NODE_PORT), **options))
    if result.code == SHOT:
        return 0
    source, port, *backend = tuple_of(result.packet)
    assert (source, backend) == (who.node, [who.remote_pod, 8080])
    return port


def answer(lab: Lab, who: Addresses, port: int, **options: Any) -> tuple[str, int]:
    """The backend's packet to one of these ports; which client gets it."""
    options = {"flags": "SA", **options}
    result = lab.run("from_uplink", segment(who, (who.remote_pod, 8080, who.node, port), **options))
    assert result.code == REDIRECT, result.counted
    source, source_port, client, client_port = tuple_of(result.packet)
    assert (source, source_port) == (who.node, NODE_PORT)
    return client, client_port


def connect(lab: Lab, who: Addresses, client: tuple[str, int]) -> int:
    """The whole handshake; as `ask`."""
    port = ask(lab, who, client, payload="", seq=100)
    if port:
        answer(lab, who, port, payload="", seq=700, ack=101)
        assert ask(lab, who, client, flags="A", payload="", seq=101, ack=701) == port
    return port


def take(lab: Lab, who: Addresses, port: int, protocol: str = "TCP") -> None:
    """A connection of before has this port."""
    node, backend = parse_address(who.node), parse_address(who.remote_pod)
    key = layout.Tuple(backend, node, 8080, port, NUMBERS[protocol])
    value = layout.Flow(
        node,
        parse_address(who.client),
        NODE_PORT,
        1,
        0,
        0,
        1,
        FlowDirection.REPLY,
        0,
        FOREVER_NS,
        0,
        0,
    )
    lab.maps["flows" if protocol == "TCP" else "transient_flows"].update(key.pack(), value.pack())
    note_ports(lab.maps)
