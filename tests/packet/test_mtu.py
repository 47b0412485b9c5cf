# SPDX-License-Identifier: Apache-2.0
"""Packets that cannot go on once they are translated: too big for the backend's route, or out of hops.

Their senders are told about what they have sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.icmp_replies import MTU, answer, expired, plain, told, too_big
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab
from tests.packet.packets import IN, POD_MAC, TO_NETWORK, V4, VETH_MAC, Addresses, Flow, segment
from tests.packet.uplink import run_inside

BACK = {"smac": VETH_MAC, "dmac": POD_MAC, "ttl": 64}
NODE_PORT = ServiceFlag.NODE_PORT
NARROW = {4: "10.233.66.14", 6: "fd00:10:233:66::14"}
NARROW_CLIENT = {4: "198.51.100.9", 6: "2001:db8:66::9"}
HEADERS = {4: 20, 6: 40}


@pytest.fixture(scope="module", autouse=True)
def routes(place: str) -> None:
    """Pods and clients behind something narrow. An MTU that is not locked is one that packets on their way ignore."""
    for there in (NARROW, NARROW_CLIENT):
        for version, gateway in ((4, "192.168.1.1"), (6, "fd00:c0a8:1::1")):
            words = f"route add {there[version]} via {gateway} mtu lock {MTU}"
            run_inside(place, "ip", *words.split())


def big(who: Addresses, flow: Flow, where: Mapping[str, Any] = IN, **options: Any) -> Packet:
    """A packet that its sender allows no router to cut; by default 1 byte more than fits."""
    transport = 8 if options.get("protocol") == "UDP" else 20
    length = options.pop("length", MTU + 1) - HEADERS[who.version] - transport
    packet = segment(who, flow, **{"payload": "x" * length, **where, **options})
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


def test_a_request_that_is_too_big(lab: Lab, who: Addresses, protocol: str) -> None:
    plain(lab)
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    sent = big(who, (who.pod, 40000, who.service, 80), protocol=protocol)
    for _ in range(2):  # of a new flow, and of one that is known
        told(
            lab.run("from_pod", sent),
            Verdict.ANSWER_TOO_BIG,
            answer(who, who.node, sent, too_big(who)),
        )


def test_a_masqueraded_request_that_is_too_big(lab: Lab, who: Addresses, protocol: str) -> None:
    plain(lab)
    lab.service(who.node, 30080, [NARROW[who.version]], protocol=protocol, flags=NODE_PORT)
    sent = big(who, (who.client, 40000, who.node, 30080), protocol=protocol)
    told(
        lab.run("from_uplink", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.node, sent, too_big(who)),
    )


def test_a_reply_that_is_too_big(lab: Lab, who: Addresses, protocol: str) -> None:
    plain(lab)
    client = NARROW_CLIENT[who.version]
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    lab.run("from_uplink", segment(who, (client, 40000, who.node, 30080), protocol=protocol))
    sent = big(who, (who.remote_pod, 8080, who.node, 40000), protocol=protocol, flags="A")
    told(
        lab.run("from_uplink", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.node, sent, too_big(who)),
    )


def test_a_reply_of_a_pod_that_is_too_big(lab: Lab, who: Addresses, protocol: str) -> None:
    plain(lab)
    client, flags = NARROW_CLIENT[who.version], NODE_PORT | ServiceFlag.LOCAL
    lab.service(who.node, 30080, [who.pod], local=[who.pod], protocol=protocol, flags=flags)
    lab.run("from_uplink", segment(who, (client, 40000, who.node, 30080), protocol=protocol))
    sent = big(who, (who.pod, 8080, client, 40000), protocol=protocol, flags="A")
    told(
        lab.run("from_pod", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.node, sent, too_big(who)),
    )


def test_the_nodes_own_packet_that_is_too_big(lab: Lab, who: Addresses, protocol: str) -> None:
    """The service's address tells it: the node's own is none that packets come from."""
    plain(lab)
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    sent = big(who, (who.node, 40000, who.service, 80), protocol=protocol)
    told(
        lab.run("to_uplink", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.service, sent, too_big(who)),
    )


def test_what_just_fits_goes_on(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    options: dict[str, Any] = {"protocol": protocol, "length": MTU}
    result = lab.run("from_pod", big(who, (who.pod, 40000, who.service, 80), **options))
    there = (who.pod, 40000, NARROW[who.version], 8080)
    assert (result.code, result.packet) == (
        REDIRECT,
        bytes(big(who, there, TO_NETWORK, **options)),
    )


def test_what_is_bigger_than_the_device_takes(lab: Lab, who: Addresses) -> None:
    plain(lab)
    lab.service(who.service, 80, [who.remote_pod])
    sent = big(who, (who.pod, 40000, who.service, 80), length=1501)
    wanted = answer(who, who.node, sent, too_big(who, 1500))
    told(lab.run("from_pod", sent), Verdict.ANSWER_TOO_BIG, wanted)


@pytest.mark.parametrize("fits", [True, False])
def test_segments_count_and_not_what_they_are_cut_from(
    lab: Lab, who: Addresses, fits: bool
) -> None:
    if not fits:
        plain(lab)
    lab.service(who.service, 80, [NARROW[who.version]])
    size = MTU - HEADERS[who.version] - 20
    sent = big(who, (who.pod, 40000, who.service, 80), length=2 * MTU, flags="A")
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 80)))
    result = lab.run("from_pod", sent, segment_bytes=size if fits else size + 1)
    if fits:
        there = (who.pod, 40000, NARROW[who.version], 8080)
        wanted = big(who, there, TO_NETWORK, length=2 * MTU, flags="A")
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
    else:
        told(result, Verdict.ANSWER_TOO_BIG, answer(who, who.node, sent, too_big(who)))


def test_where_routers_may_cut_it_is_dropped(lab: Lab) -> None:
    """IPv4 without DF: nothing here cuts packets, and an answer would not be heard."""
    lab.service(V4.service, 80, [NARROW[4]], protocol="UDP")
    sent = big(V4, (V4.pod, 40000, V4.service, 80), protocol="UDP")
    sent[IP].flags = 0
    result = lab.run("from_pod", sent)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_POD, Verdict.DROP_TOO_BIG): 1},
    )


def test_what_is_not_translated_is_left_to_the_stack(lab: Lab, who: Addresses) -> None:
    sent = big(who, (who.pod, 40000, NARROW[who.version], 80))
    result = lab.run("from_pod", sent)
    assert (result.code, result.packet) == (PASS, bytes(sent))


def test_the_last_hop_is_told_of(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    lab.service(who.service, 81, [who.remote_pod], protocol=protocol)
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    rows = [
        ("from_pod", (who.pod, 40000, who.service, 80)),
        ("from_pod", (who.pod, 40000, who.service, 81)),
        ("from_uplink", (who.client, 40000, who.node, 30080)),
    ]
    for program, flow in rows:
        sent = segment(who, flow, protocol=protocol, ttl=1, payload="")
        wanted = answer(who, who.node, sent, expired(who))
        told(lab.run(program, sent), Verdict.ANSWER_TTL_EXPIRED, wanted)


def test_the_last_hop_of_a_reply_is_told_of(lab: Lab, who: Addresses, protocol: str) -> None:
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol))
    flow = (who.remote_pod, 8080, who.node, 40000)
    sent = segment(who, flow, protocol=protocol, ttl=1, payload="", flags="SA")
    wanted = answer(who, who.node, sent, expired(who))
    told(lab.run("from_uplink", sent), Verdict.ANSWER_TTL_EXPIRED, wanted)
