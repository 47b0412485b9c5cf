# SPDX-License-Identifier: Apache-2.0
"""Frames with a VLAN's tag that leave by an uplink: a bridge hands them on with the tag beside the frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from socket import socket

import pytest
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet

from kubypass.kernel.attach.clsact import remove_clsact
from kubypass.kernel.netns import inside
from kubypass.model.verdict import Hook, Verdict
from tests.packet.devices import attach, index, packet_socket, receive, same, tagged, verdicts
from tests.packet.lab import Lab
from tests.packet.packets import Addresses, segment
from tests.packet.uplink import run_inside

_SETUP = """
link add br9 type bridge mcast_snooping 0
link add near9 type veth peer name in9
link add up9 type veth peer name far9
link set in9 master br9
link set up9 master br9
""" + "".join(
    f"link set {name} addrgenmode none up\n" for name in ("br9", "near9", "in9", "up9", "far9")
)
BEHIND = "02:00:00:00:99:99"
"""A host behind the uplink, which the bridge does not know yet."""
TAGS = [
    pytest.param([Dot1Q(vlan=10)], id="VLAN 10"),
    pytest.param([Dot1AD(vlan=10), Dot1Q(vlan=20)], id="QinQ"),
    pytest.param([Dot1Q(vlan=0, prio=5)], id="a priority"),
]


@dataclass(frozen=True, slots=True)
class Bridged:
    """What is sent at `near` leaves by an uplink of the node, and is seen at `far`."""

    lab: Lab
    near: socket
    far: socket


@pytest.fixture(scope="module")
def bridge(loaded: Lab) -> Iterator[Bridged]:
    path = loaded.path
    run_inside(path, "ip", "-batch", "-", lines=_SETUP)
    up = index(path, "up9")
    try:
        attach(path, up, {"egress": loaded.programs["to_uplink"]})
        with packet_socket(path, "near9") as near, packet_socket(path, "far9") as far:
            yield Bridged(loaded, near, far)
    finally:
        with inside(path):
            remove_clsact(up)
        for name in ("br9", "near9", "up9"):
            run_inside(path, "ip", "link", "delete", name)


@pytest.fixture
def bridged(bridge: Bridged) -> Bridged:
    """The bridge with empty maps."""
    bridge.lab.reset()
    return bridge


def to_service(lab: Lab, who: Addresses, protocol: str) -> Packet:
    """A frame with the node's address to a service whose backend is on another node."""
    lab.service(who.service, 80, [who.remote_pod], protocol=protocol)
    return segment(who, (who.node, 40000, who.service, 80), protocol=protocol, dmac=BEHIND)


def test_what_has_no_tag_goes_to_the_backend(
    bridged: Bridged, who: Addresses, protocol: str
) -> None:
    frame = bytes(to_service(bridged.lab, who, protocol))
    found = verdicts(bridged.lab, Hook.TO_UPLINK, partial(bridged.near.send, frame))
    assert found == [Verdict.TO_NETWORK]
    assert len(bridged.lab.flows()) == 2


@pytest.mark.parametrize("tags", TAGS)
def test_what_has_a_tag_leaves_as_it_came(
    bridged: Bridged, who: Addresses, protocol: str, tags: list[Packet]
) -> None:
    """In a VLAN the same address may be another's."""
    sent = to_service(bridged.lab, who, protocol)
    frame = tagged(sent, *tags)
    found = verdicts(bridged.lab, Hook.TO_UPLINK, partial(bridged.near.send, frame))
    assert found == [Verdict.PASS]
    _, has_tag = receive(bridged.far, same(tagged(sent, *tags[1:])))
    assert has_tag
    assert not bridged.lab.flows()
