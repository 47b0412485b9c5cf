# SPDX-License-Identifier: Apache-2.0
"""Legacy host routing: the stack gets packets with their new destination, and they leave with their new source."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether

from kubypass.datapath.sizes import is_note
from kubypass.model.verdict import ServiceFlag
from tests.packet.lab import PASS, SHOT, Lab
from tests.packet.legacy import LEGACY, passes, run
from tests.packet.packets import POD_MAC, VETH_MAC, Addresses, segment
from tests.packet.snat import NODE_PORT, empty

PORT = 40000


@pytest.fixture
def legacy(netns: str) -> Lab:
    return empty(netns, **LEGACY)


@pytest.mark.parametrize("number", ["TCP", "UDP", "SCTP"])
def test_a_backend_elsewhere(legacy: Lab, who: Addresses, number: str) -> None:
    """Netfilter sees the client and the backend, though each sees an address of the node."""
    lab, more = legacy, {"protocol": number, "smac": POD_MAC, "dmac": VETH_MAC}
    lab.service(who.node, NODE_PORT, [who.remote_pod], protocol=number, flags=ServiceFlag.NODE_PORT)
    ways = ("from_uplink", "to_uplink")
    passes(
        lab, ways,
        segment(who, (who.client, PORT, who.node, NODE_PORT), **more),
        segment(who, (who.client, PORT, who.remote_pod, 8080), **more),
        segment(who, (who.node, PORT, who.remote_pod, 8080), **more),
    )  # fmt: skip
    answer = more | {"flags": "SA"}
    passes(
        lab, ways,
        segment(who, (who.remote_pod, 8080, who.node, PORT), **answer),
        segment(who, (who.remote_pod, 8080, who.client, PORT), **answer),
        segment(who, (who.node, NODE_PORT, who.client, PORT), **answer),
    )  # fmt: skip


def test_a_backend_here(legacy: Lab, who: Addresses, protocol: str) -> None:
    lab, more = legacy, {"protocol": protocol, "smac": POD_MAC, "dmac": VETH_MAC}
    flags = ServiceFlag.NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, NODE_PORT, [who.pod], local=[who.pod], protocol=protocol, flags=flags)
    there = segment(who, (who.client, PORT, who.pod, 8080), **more)
    passes(
        lab, ("from_uplink", "to_pod"),
        segment(who, (who.client, PORT, who.node, NODE_PORT), **more), there, there,
    )  # fmt: skip
    answer = more | {"flags": "SA"}
    back = segment(who, (who.pod, 8080, who.client, PORT), **answer)
    passes(
        lab, ("from_pod", "to_uplink"), back, back,
        segment(who, (who.node, NODE_PORT, who.client, PORT), **answer),
    )  # fmt: skip


def test_what_no_service_has_to_do_with(legacy: Lab, who: Addresses, protocol: str) -> None:
    for source, target, ways in (
        (who.pod, who.remote_pod, ("from_pod", "to_uplink")),
        (who.remote_pod, who.pod, ("from_uplink", "to_pod")),
        (who.pod, who.second_pod, ("from_pod", "to_pod")),
    ):
        packet = segment(who, (source, PORT, target, 80), protocol=protocol)
        passes(legacy, ways, packet, packet, packet)


def test_a_place_that_another_packet_has(legacy: Lab, who: Addresses, protocol: str) -> None:
    """A packet that was too long in the stack, or that somebody's NAT has changed, leaves as the stack has it."""
    lab = legacy
    lab.service(
        who.node, NODE_PORT, [who.remote_pod], protocol=protocol, flags=ServiceFlag.NODE_PORT
    )
    packet = segment(who, (who.client, PORT, who.node, NODE_PORT), protocol=protocol)
    note = run(lab, "from_uplink", packet).note
    other = segment(who, (who.client, PORT + 1, who.remote_pod, 8080), protocol=protocol)
    assert run(lab, "to_uplink", other, note) == (PASS, bytes(other), 0)


def test_what_stays_on_the_node_has_no_note(legacy: Lab, who: Addresses, protocol: str) -> None:
    packet = segment(who, (who.client, PORT, who.node, 22), protocol=protocol)
    assert run(legacy, "from_uplink", packet, note=0x4B50) == (PASS, bytes(packet), 0)


def too_big(who: Addresses, ends: tuple[str, str], quoted: tuple[str, int, str, int]) -> bytes:
    """A router's error about a packet."""
    inner = bytes(segment(who, quoted)[IP if who.version == 4 else IPv6])[:48]
    error: Any = (
        ICMP(type=3, code=4, nexthopmtu=1400) if who.version == 4 else ICMPv6PacketTooBig(mtu=1400)
    )
    return bytes(Ether(src=POD_MAC, dst=VETH_MAC) / who.ip(*ends) / error / inner)


def ends_of(who: Addresses, packet: bytes) -> tuple[str, ...]:
    """The addresses of an error, and those that it quotes, with ports; its checksums are right."""
    layer = IP if who.version == 4 else IPv6
    outer = layer(packet[14:])
    at = 14 + (20 if who.version == 4 else 40) + 8
    inner = layer(packet[at:])
    ports = packet[at + (20 if who.version == 4 else 40) :][:4]
    again = layer(packet[14:])
    message = again.payload
    message.fields.pop("chksum" if who.version == 4 else "cksum", None)
    assert bytes(again)[:] == packet[14:], "a checksum is wrong"
    return (
        outer.src,
        outer.dst,
        inner.src,
        inner.dst,
        str(int.from_bytes(ports[:2])),
        str(int.from_bytes(ports[2:])),
    )


def test_errors_about_replies(legacy: Lab, who: Addresses) -> None:
    """A router on the way to the client says that a reply is too big; netfilter has to find its connection."""
    lab, router = legacy, "198.51.100.77" if who.version == 4 else "2001:db8:51::77"
    lab.service(who.node, NODE_PORT, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    run(lab, "from_uplink", segment(who, (who.client, PORT, who.node, NODE_PORT)))
    error = too_big(who, (router, who.node), (who.node, NODE_PORT, who.client, PORT))
    arrived = run(lab, "from_uplink", error)
    assert arrived.code == PASS
    assert is_note(arrived.note)
    seen = (router, who.remote_pod, who.remote_pod, who.client, "8080", str(PORT))
    assert ends_of(who, arrived.packet) == seen
    gone = run(lab, "to_uplink", arrived.packet, arrived.note)
    left = (who.node, who.remote_pod, who.remote_pod, who.node, "8080", str(PORT))
    assert ends_of(who, gone.packet) == left
    assert gone.code != SHOT


def test_a_port_that_the_client_has_twice(legacy: Lab, who: Addresses) -> None:
    """By two services to one backend: netfilter sees two connections, each with the port that the backend sees."""
    lab, other = legacy, NODE_PORT + 1
    for number in (NODE_PORT, other):
        lab.service(who.node, number, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    run(lab, "from_uplink", segment(who, (who.client, PORT, who.node, NODE_PORT)))
    there = run(lab, "from_uplink", segment(who, (who.client, PORT, who.node, other)))
    assert is_note(there.note)
    at = 14 + (20 if who.version == 4 else 40)
    port = int.from_bytes(there.packet[at:][:2])
    assert port != PORT
    assert there.packet == bytes(segment(who, (who.client, port, who.remote_pod, 8080)))
    gone = run(lab, "to_uplink", there.packet, there.note)
    assert gone.packet == bytes(segment(who, (who.node, port, who.remote_pod, 8080)))
    passes(
        lab, ("from_uplink", "to_uplink"),
        segment(who, (who.remote_pod, 8080, who.node, port), flags="SA"),
        segment(who, (who.remote_pod, 8080, who.client, port), flags="SA"),
        segment(who, (who.node, other, who.client, PORT), flags="SA"),
    )  # fmt: skip
    router = "198.51.100.77" if who.version == 4 else "2001:db8:51::77"
    for error, seen, left in (
        (
            too_big(who, (router, who.node), (who.node, other, who.client, PORT)),
            (router, who.remote_pod, who.remote_pod, who.client, "8080", str(port)),
            (who.node, who.remote_pod, who.remote_pod, who.node, "8080", str(port)),
        ),
        (
            too_big(who, (router, who.node), (who.node, port, who.remote_pod, 8080)),
            (router, who.client, who.client, who.remote_pod, str(port), "8080"),
            (who.node, who.client, who.client, who.node, str(PORT), str(other)),
        ),
    ):  # fmt: skip
        arrived = run(lab, "from_uplink", error)
        assert ends_of(who, arrived.packet) == seen
        assert ends_of(who, run(lab, "to_uplink", arrived.packet, arrived.note).packet) == left
