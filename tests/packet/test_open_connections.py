# SPDX-License-Identifier: Apache-2.0
"""Packets of TCP connections whose handshake is over: what most packets are. With --cost, only these are counted."""

from __future__ import annotations

from typing import Any

from kubypass.model.verdict import FlowState, ServiceFlag
from tests.packet.lab import Lab
from tests.packet.packets import TO_NETWORK, TO_POD, Addresses, Flow
from tests.packet.translation import follow

Way = tuple[str, Flow, Flow, dict[str, Any]]
"""A program, what a packet is as it comes and as it goes on, and where to."""


def follow_connection(lab: Lab, who: Addresses, there: Way, back: Way) -> None:
    """A handshake; then a request and its acknowledgment, which are the packets that count."""

    def send(way: Way, flags: str, seq: int, ack: int, payload: str = "") -> None:
        program, flow, seen, where = way
        numbers = {"flags": flags, "seq": seq, "ack": ack, "payload": payload}
        follow(lab, who, program, flow, seen, where, **numbers)

    send(there, "S", 100, 0)
    send(back, "SA", 500, 101)
    send(there, "A", 101, 501)
    lab.costs.clear()
    send(there, "PA", 101, 501, "hello")
    send(back, "A", 501, 106)
    assert {flow.state for flow in lab.flows().values()} == {FlowState.ESTABLISHED}


def test_an_open_connection_of_a_pod_to_a_local_backend(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod])
    there, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    back, answer = (who.second_pod, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow_connection(
        lab, who, ("from_pod", there, seen, TO_POD), ("from_pod", back, answer, TO_POD)
    )


def test_an_open_connection_of_a_pod_to_a_remote_backend(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.remote_pod])
    there, seen = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    back, answer = (who.remote_pod, 8080, who.pod, 40000), (who.service, 80, who.pod, 40000)
    follow_connection(
        lab, who, ("from_pod", there, seen, TO_NETWORK), ("from_uplink", back, answer, TO_POD)
    )


def test_an_open_connection_to_a_node_port_with_a_remote_backend(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 30080, [who.remote_pod], flags=ServiceFlag.NODE_PORT)
    there, seen = (who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080)
    back, answer = (who.remote_pod, 8080, who.node, 40000), (who.node, 30080, who.client, 40000)
    follow_connection(
        lab,
        who,
        ("from_uplink", there, seen, TO_NETWORK),
        ("from_uplink", back, answer, TO_NETWORK),
    )


def test_an_open_connection_between_pods_of_a_node(lab: Lab, who: Addresses) -> None:
    there, back = (who.pod, 40000, who.second_pod, 80), (who.second_pod, 80, who.pod, 40000)
    lab.costs.clear()
    follow(lab, who, "from_pod", there, there, TO_POD, flags="PA", seq=101, ack=501)
    follow(lab, who, "from_pod", back, back, TO_POD, flags="A", seq=501, ack=106)
    assert not lab.flows()


def test_an_open_connection_to_a_pod_of_another_node(lab: Lab, who: Addresses) -> None:
    there, back = (who.pod, 40000, who.remote_pod, 80), (who.remote_pod, 80, who.pod, 40000)
    follow(lab, who, "from_pod", there, there, TO_NETWORK, flags="PA", seq=101, ack=501)
    follow(lab, who, "from_uplink", back, back, TO_POD, flags="A", seq=501, ack=106)
    assert not lab.flows()
