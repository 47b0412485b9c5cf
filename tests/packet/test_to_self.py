# SPDX-License-Identifier: Apache-2.0
"""What the node sends to its own addresses, by the loopback device: SCTP, whose sockets have no hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.lab import PASS, REDIRECT, Lab
from tests.packet.packets import TO_NETWORK, TO_POD, Addresses, Flow, segment
from tests.packet.pipeline import NOBODY

NODE_PORT = ServiceFlag.NODE_PORT
SELF = {"smac": NOBODY, "dmac": NOBODY, "ttl": 64}
"""MAC addresses and TTL of packets on the loopback device. The node is no router for itself: the TTL stays."""
OPTIONS = {"protocol": "SCTP"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def follow(
    lab: Lab,
    who: Addresses,
    program: str,
    sent: Flow,
    expected: Flow,
    where: Mapping[str, Any],
    code: int = REDIRECT,
    start: Mapping[str, Any] = SELF,
) -> None:
    """One packet in, one whole packet out."""
    result = lab.run(program, segment(who, sent, **OPTIONS, **start))
    wanted = bytes(segment(who, expected, **OPTIONS, **where))
    assert (result.code, result.packet) == (code, wanted), result.counted


@pytest.fixture(params=["own", "loopback"])
def own(request: pytest.FixtureRequest, who: Addresses) -> str:
    """The client's address, which it dials too."""
    return who.node if request.param == "own" else LOOPBACK[who.version]


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_pod_answers_by_the_loopback_device(
    lab: Lab, who: Addresses, own: str, where: str
) -> None:
    """The client is masqueraded by the node's address, so that the answer comes back."""
    backend, on, program = {
        "here": (who.second_pod, TO_POD, "from_pod"),
        "elsewhere": (who.remote_pod, TO_NETWORK, "from_uplink"),
    }[where]
    lab.service(who.node, 30080, [backend], protocol="SCTP", flags=NODE_PORT)
    there = (who.node, 40000, backend, 8080)
    for _ in range(2):
        follow(lab, who, "to_self", (own, 40000, own, 30080), there, {**on, "ttl": 64})
    answer = (backend, 8080, who.node, 40000)
    follow(lab, who, program, answer, (own, 30080, own, 40000), SELF, start={"ttl": 64})


def test_a_server_in_the_nodes_network(lab: Lab, who: Addresses, own: str) -> None:
    """The packet stays on the device, and so does the answer."""
    lab.service(who.node, 30080, [who.node], protocol="SCTP", flags=NODE_PORT)
    there = (own, 40000, who.node, 8080)
    follow(lab, who, "to_self", (own, 40000, own, 30080), there, SELF, PASS)
    answer = (who.node, 8080, own, 40000)
    follow(lab, who, "to_self", answer, (own, 30080, own, 40000), SELF, PASS)


def test_a_cluster_ip_whose_server_is_in_the_nodes_network(lab: Lab, who: Addresses) -> None:
    """It has left by the uplink, and comes back by the loopback device."""
    lab.service(who.service, 80, [who.node], protocol="SCTP")
    there = (who.node, 40000, who.node, 8080)
    follow(
        lab, who, "to_uplink", (who.node, 40000, who.service, 80), there, SELF, start={"ttl": 64}
    )
    answer = (who.node, 8080, who.node, 40000)
    follow(lab, who, "to_self", answer, (who.service, 80, who.node, 40000), SELF, PASS)


def test_policy_local_does_not_count_for_the_node(lab: Lab, who: Addresses) -> None:
    flags = NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [who.remote_pod], local=[], protocol="SCTP", flags=flags)
    there = (who.node, 40000, who.remote_pod, 8080)
    on = {**TO_NETWORK, "ttl": 64}
    follow(lab, who, "to_self", (who.node, 40000, who.node, 30080), there, on)


def test_an_external_address_of_the_nodes_own(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 80, [who.second_pod], protocol="SCTP", flags=ServiceFlag.EXTERNAL_IP)
    there = (who.node, 40000, who.second_pod, 8080)
    on = {**TO_POD, "ttl": 64}
    follow(lab, who, "to_self", (who.node, 40000, who.node, 80), there, on)


def test_nothing_serves_anywhere(lab: Lab, who: Addresses, own: str) -> None:
    """The node is told, at a loopback address too."""
    lab.service(who.node, 30080, [], protocol="SCTP", flags=NODE_PORT)
    sent = segment(who, (own, 40000, own, 30080), **OPTIONS, **SELF)
    result = lab.run("to_self", sent)
    assert dict(result.counted) == {(Hook.TO_SELF, Verdict.REJECT_NO_BACKEND): 1}
    header, message = ((IP, ICMP), (IPv6, ICMPv6DestUnreach))[who.version == 6]
    found = header(result.packet[14:])
    assert (result.code, found.src, found.dst) == (REDIRECT, own, own)
    assert (found[message].type, found[message].code) == ((3, 3) if who.version == 4 else (1, 4))


def test_what_no_service_has_is_left_alone(lab: Lab, who: Addresses, own: str) -> None:
    lab.service(who.node, 30080, [who.second_pod], protocol="SCTP", flags=NODE_PORT)
    flow = (own, 40000, own, 30081)
    follow(lab, who, "to_self", flow, flow, SELF, PASS)
    assert not lab.flows()


def test_an_address_without_node_ports(lab: Lab, who: Addresses) -> None:
    lab.local_address(who.node, LocalAddressKind.NODE)
    lab.service(who.node, 30080, [who.second_pod], protocol="SCTP", flags=NODE_PORT)
    lab.local_address(who.node, LocalAddressKind.NODE)
    flow = (who.node, 40000, who.node, 30080)
    follow(lab, who, "to_self", flow, flow, SELF, PASS)


def test_a_port_that_a_translated_connection_has(lab: Lab, who: Addresses) -> None:
    """Two of the node's own from one port to one server: by the service, and directly."""
    lab.service(who.node, 30080, [who.node], protocol="SCTP", flags=NODE_PORT)
    there = (who.node, 40000, who.node, 8080)
    follow(lab, who, "to_self", (who.node, 40000, who.node, 30080), there, SELF, PASS)
    result = lab.run("to_self", segment(who, there, **OPTIONS, **SELF))
    assert result.code == PASS
    moved = [key for key, flow in lab.flows().items() if not flow.service]
    assert {(key.source_port, key.destination_port) for key in moved} >= {(40000, 8080)}


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_sockets_of_others_were_asked(lab: Lab, who: Addresses, protocol: str) -> None:
    """Packets of other protocols are not looked at, and not counted."""
    lab.service(who.node, 30080, [who.second_pod], protocol=protocol, flags=NODE_PORT)
    sent = segment(who, (who.node, 40000, who.node, 30080), protocol=protocol, **SELF)
    result = lab.run("to_self", sent)
    assert (result.code, result.packet, dict(result.counted)) == (PASS, bytes(sent), {})
    lab.service(who.service, 80, [who.node], protocol=protocol)
    result = lab.run(
        "to_uplink", segment(who, (who.node, 40000, who.service, 80), protocol=protocol)
    )
    assert dict(result.counted) == {(Hook.TO_UPLINK, Verdict.DROP_NO_ROUTE): 1}
