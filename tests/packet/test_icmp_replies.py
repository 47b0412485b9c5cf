# SPDX-License-Identifier: Apache-2.0
"""ICMP errors that the programs send: what they quote, and who gets none."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.fragments import fragments
from tests.packet.icmp_replies import answer, expired, plain, told, unreachable
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab
from tests.packet.packets import IN, V4, V6, Addresses, segment


def with_headers(who: Addresses, packet: Packet) -> Packet:
    if who.version == 4:
        packet[IP].options = [IPOption_NOP()] * 40
        packet[IP].ihl = packet[IP].len = packet[IP].chksum = None
    else:
        transport = packet[IPv6].payload
        packet[IPv6].remove_payload()
        packet = packet / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / transport
    return Ether(bytes(packet))


def test_options_are_quoted(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    lab.service(who.service, 81, [], protocol=protocol)
    rows = [
        (80, who.node, expired(who), Verdict.ANSWER_TTL_EXPIRED),
        (81, who.service, unreachable(who), Verdict.REJECT_NO_BACKEND),
    ]
    for port, source, message, verdict in rows:
        flow = (who.pod, 40000, who.service, port)
        sent = with_headers(who, segment(who, flow, protocol=protocol, ttl=1, payload=""))
        told(lab.run("from_pod", sent), verdict, answer(who, source, sent, message))


@pytest.mark.parametrize("length", [0, 1, 6, 7, 19, 500, 1200])
def test_as_much_is_quoted_as_every_host_takes(
    lab: Lab, who: Addresses, protocol: str, length: int
) -> None:
    plain(lab)
    lab.service(who.service, 80, [], protocol=protocol)
    payload = "".join(chr(33 + number % 90) for number in range(length))
    flow = (who.pod, 40000, who.service, 80)
    sent = segment(who, flow, protocol=protocol, payload=payload)
    wanted = answer(who, who.service, sent, unreachable(who))
    for padding in (b"", bytes(5)):
        told(lab.run("from_pod", bytes(sent) + padding), Verdict.REJECT_NO_BACKEND, wanted)


@pytest.mark.parametrize(
    "sender",
    [
        *("0.0.0.0", "127.0.0.1", "224.0.0.5", "255.255.255.255"),  # noqa: S104
        *("::", "::1", "ff02::5"),
    ],
)
def test_who_is_no_single_host_gets_no_answer(lab: Lab, sender: str) -> None:
    who = V6 if ":" in sender else V4
    lab.service(who.node, 30080, [], flags=ServiceFlag.NODE_PORT)
    result = lab.run("from_uplink", segment(who, (sender, 40000, who.node, 30080), payload=""))
    assert (result.code, dict(result.counted)) == (PASS, {(Hook.FROM_UPLINK, Verdict.FOREIGN): 1})


def test_what_was_sent_to_all_gets_no_answer(lab: Lab, who: Addresses) -> None:
    lab.service(who.node, 30080, [], flags=ServiceFlag.NODE_PORT)
    flow = (who.client, 40000, who.node, 30080)
    result = lab.run("from_uplink", segment(who, flow, payload="", dmac="ff:ff:ff:ff:ff:ff"))
    assert (result.code, dict(result.counted)) == (PASS, {(Hook.FROM_UPLINK, Verdict.FOREIGN): 1})


def test_a_later_fragment_gets_no_answer(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    flow = (who.pod, 40000, who.service, 80)
    first, second, *_ = fragments(who, flow, IN, protocol="UDP")
    lab.run("from_pod", first)
    _, last_hop, *_ = fragments(who, flow, {**IN, "ttl": 1}, protocol="UDP")
    result = lab.run("from_pod", last_hop)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_POD, Verdict.DROP_TTL_EXPIRED): 1},
    )
    assert lab.run("from_pod", second).code == REDIRECT
