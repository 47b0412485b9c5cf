# SPDX-License-Identifier: Apache-2.0
"""A service's address answers pings where a setting says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.lab import REDIRECT, Lab, config
from tests.packet.packets import IN, POD_MAC, VETH_MAC, Addresses


def echo(
    who: Addresses,
    flow: tuple[str, str],
    where: Mapping[str, Any],
    *,
    reply: bool = False,
    number: int = 5,
) -> bytes:
    message: Packet
    if who.version == 4:
        message = ICMP(type=0 if reply else 8, id=number, seq=3)
    else:
        kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
        message = kind(id=number, seq=3)
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    return bytes(ethernet / who.ip(flow[0], flow[1], where["ttl"]) / message / b"are you there?")


@pytest.fixture(scope="module")
def answering(netns: str) -> Lab:
    made = Lab(netns)
    made.load(config(answer_ping=1))
    return made


@pytest.mark.parametrize("program", ["from_pod", "to_uplink"])
def test_a_cluster_ip_answers_pings_where_that_is_set(
    answering: Lab, lab: Lab, who: Addresses, program: str
) -> None:
    answering.reset()
    answering.flags = lab.flags
    answering.service(who.service, 80, [who.remote_pod])
    back = {"smac": VETH_MAC, "dmac": POD_MAC, "ttl": 64}
    for ttl in (64, 3):
        request = echo(who, (who.pod, who.service), {**IN, "ttl": ttl})
        result = answering.run(program, request)
        assert result.packet == echo(who, (who.service, who.pod), back, reply=True)
        assert (result.code, [verdict for _, verdict in result.counted]) == (
            REDIRECT,
            [Verdict.ANSWER_ECHO],
        )


@pytest.mark.parametrize(
    ("kind", "answered"),
    [
        (ServiceFlag.CLUSTER_IP, False),
        (ServiceFlag.EXTERNAL_IP, True),
        (ServiceFlag.LOAD_BALANCER, True),
    ],
)
def test_pings_from_outside(
    answering: Lab, lab: Lab, who: Addresses, kind: ServiceFlag, answered: bool
) -> None:
    answering.reset()
    answering.flags = lab.flags
    answering.service(who.service, 80, [who.remote_pod], flags=kind)
    request = echo(who, (who.client, who.service), IN)
    verdicts = [verdict for _, verdict in answering.run("from_uplink", request).counted]
    assert verdicts == [Verdict.ANSWER_ECHO if answered else Verdict.DROP_NO_SERVICE]


def test_pings_of_others_are_not_answered(answering: Lab, lab: Lab, who: Addresses) -> None:
    answering.reset()
    answering.flags = lab.flags
    answering.service(who.service, 80, [who.remote_pod])
    for there in (who.second_pod, who.remote_pod, who.node):
        result = answering.run("from_pod", echo(who, (who.pod, there), IN))
        assert [verdict for _, verdict in result.counted] != [Verdict.ANSWER_ECHO]
    reply = echo(who, (who.pod, who.service), IN, reply=True)
    verdicts = [verdict for _, verdict in answering.run("from_pod", reply).counted]
    assert verdicts == [Verdict.DROP_NO_SERVICE]


def test_by_default_a_cluster_ip_answers_no_pings(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.remote_pod])
    result = lab.run("from_pod", echo(who, (who.pod, who.service), IN))
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_NO_SERVICE): 1}
