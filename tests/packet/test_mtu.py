# SPDX-License-Identifier: Apache-2.0
"""Packets that cannot go on once they are translated: too big for the backend's route, or out of hops.

Their senders are told about what they have sent.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.lab import (
    IN,
    PASS,
    POD_MAC,
    REDIRECT,
    SHOT,
    TO_NETWORK,
    V4,
    V6,
    VETH_MAC,
    segment,
)
from tests.packet.test_fragments import pieces

BACK = {"smac": VETH_MAC, "dmac": POD_MAC, "ttl": 64}
NODE_PORT = ServiceFlag.NODE_PORT
MTU = 1400
NARROW = {4: "10.233.66.14", 6: "fd00:10:233:66::14"}
NARROW_CLIENT = {4: "198.51.100.9", 6: "2001:db8:66::9"}
HEADERS = {4: 20, 6: 40}


@pytest.fixture(scope="module", autouse=True)
def routes(place):
    """Pods and clients behind something narrow. An MTU that is not locked is one that packets on their way ignore."""
    for there in (NARROW, NARROW_CLIENT):
        for version, gateway in ((4, "192.168.1.1"), (6, "fd00:c0a8:1::1")):
            words = f"route add {there[version]} via {gateway} mtu lock {MTU}"
            subprocess.run(["ip", "-n", Path(place).name, *words.split()], check=True)


def big(who, flow, where=IN, **options):
    """A packet that its sender allows no router to cut; by default 1 byte more than fits."""
    transport = 8 if options.get("protocol") == "UDP" else 20
    length = options.pop("length", MTU + 1) - HEADERS[who.version] - transport
    packet = segment(who, flow, **{"payload": "x" * length, **where, **options})
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


def answer(who, source, sent, message) -> bytes:
    """The error about a frame, of which it quotes as much as every host takes."""
    room = 576 - 28 if who.version == 4 else 1280 - 48
    ip = who.ip(source, sent[1].src, 64)
    if who.version == 4:
        ip.id = 0
    return bytes(Ether(src=sent.dst, dst=sent.src) / ip / message / bytes(sent[1])[:room])


def too_big(who, mtu=MTU):
    """Linux before 5.12 does not tell programs what would fit: then it is what fits everywhere."""
    if [int(number) for number in os.uname().release.split(".")[:2]] < [5, 12]:
        mtu = 576 if who.version == 4 else 1280
    return ICMP(type=3, code=4, nexthopmtu=mtu) if who.version == 4 else ICMPv6PacketTooBig(mtu=mtu)


def expired(who):
    return ICMP(type=11) if who.version == 4 else ICMPv6TimeExceeded()


def unreachable(who):
    return ICMP(type=3, code=3) if who.version == 4 else ICMPv6DestUnreach(code=4)


def told(result, verdict, packet):
    assert [found for _, found in result.counted] == [verdict]
    assert (result.code, result.packet) == (REDIRECT, packet)


def plain(lab):
    """Packets lose a device's sum when they are trimmed, which test run takes for a wrong one."""
    lab.flags = 0


def test_a_request_that_is_too_big(lab, who, protocol):
    plain(lab)
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    sent = big(who, (who.pod, 40000, who.service, 80), protocol=protocol)
    for _ in range(2):  # of a new flow, and of one that is known
        told(
            lab.run("from_pod", sent),
            Verdict.ANSWER_TOO_BIG,
            answer(who, who.node, sent, too_big(who)),
        )


def test_a_masqueraded_request_that_is_too_big(lab, who, protocol):
    plain(lab)
    lab.service(who.node, 30080, [NARROW[who.version]], protocol=protocol, flags=NODE_PORT)
    sent = big(who, (who.client, 40000, who.node, 30080), protocol=protocol)
    told(
        lab.run("from_uplink", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.node, sent, too_big(who)),
    )


def test_a_reply_that_is_too_big(lab, who, protocol):
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


def test_a_reply_of_a_pod_that_is_too_big(lab, who, protocol):
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


def test_the_nodes_own_packet_that_is_too_big(lab, who, protocol):
    """The service's address tells it: the node's own is none that packets come from."""
    plain(lab)
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    sent = big(who, (who.node, 40000, who.service, 80), protocol=protocol)
    told(
        lab.run("to_uplink", sent),
        Verdict.ANSWER_TOO_BIG,
        answer(who, who.service, sent, too_big(who)),
    )


def test_what_just_fits_goes_on(lab, who, protocol):
    lab.service(who.service, 80, [NARROW[who.version]], protocol=protocol)
    options = {"protocol": protocol, "length": MTU}
    result = lab.run("from_pod", big(who, (who.pod, 40000, who.service, 80), **options))
    there = (who.pod, 40000, NARROW[who.version], 8080)
    assert (result.code, result.packet) == (
        REDIRECT,
        bytes(big(who, there, TO_NETWORK, **options)),
    )


def test_what_is_bigger_than_the_device_takes(lab, who):
    plain(lab)
    lab.service(who.service, 80, [who.remote_pod])
    sent = big(who, (who.pod, 40000, who.service, 80), length=1501)
    wanted = answer(who, who.node, sent, too_big(who, 1500))
    told(lab.run("from_pod", sent), Verdict.ANSWER_TOO_BIG, wanted)


@pytest.mark.parametrize("fits", [True, False])
def test_segments_count_and_not_what_they_are_cut_from(lab, who, fits):
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


def test_where_routers_may_cut_it_is_dropped(lab):
    """IPv4 without DF: nothing here cuts packets, and an answer would not be heard."""
    lab.service(V4.service, 80, [NARROW[4]], protocol="UDP")
    sent = big(V4, (V4.pod, 40000, V4.service, 80), protocol="UDP")
    sent[IP].flags = 0
    result = lab.run("from_pod", sent)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_POD, Verdict.DROP_TOO_BIG): 1},
    )


def test_what_is_not_translated_is_left_to_the_stack(lab, who):
    sent = big(who, (who.pod, 40000, NARROW[who.version], 80))
    result = lab.run("from_pod", sent)
    assert (result.code, result.packet) == (PASS, bytes(sent))


def test_the_last_hop_is_told_of(lab, who, protocol):
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


def test_the_last_hop_of_a_reply_is_told_of(lab, who, protocol):
    lab.service(who.node, 30080, [who.remote_pod], protocol=protocol, flags=NODE_PORT)
    lab.run("from_uplink", segment(who, (who.client, 40000, who.node, 30080), protocol=protocol))
    flow = (who.remote_pod, 8080, who.node, 40000)
    sent = segment(who, flow, protocol=protocol, ttl=1, payload="", flags="SA")
    wanted = answer(who, who.node, sent, expired(who))
    told(lab.run("from_uplink", sent), Verdict.ANSWER_TTL_EXPIRED, wanted)


def with_headers(who, packet):
    if who.version == 4:
        packet[IP].options = [IPOption_NOP()] * 40
        packet[IP].ihl = packet[IP].len = packet[IP].chksum = None
    else:
        transport = packet[IPv6].payload
        packet[IPv6].remove_payload()
        packet = packet / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / transport
    return Ether(bytes(packet))


def test_options_are_quoted(lab, who, protocol):
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
def test_as_much_is_quoted_as_every_host_takes(lab, who, protocol, length):
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
def test_who_is_no_single_host_gets_no_answer(lab, sender):
    who = V6 if ":" in sender else V4
    lab.service(who.node, 30080, [], flags=NODE_PORT)
    result = lab.run("from_uplink", segment(who, (sender, 40000, who.node, 30080), payload=""))
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_UPLINK, Verdict.REJECT_NO_BACKEND): 1},
    )


def test_what_was_sent_to_all_gets_no_answer(lab, who):
    lab.service(who.node, 30080, [], flags=NODE_PORT)
    flow = (who.client, 40000, who.node, 30080)
    result = lab.run("from_uplink", segment(who, flow, payload="", dmac="ff:ff:ff:ff:ff:ff"))
    assert result.code == SHOT


def test_a_later_piece_gets_no_answer(lab, who):
    lab.service(who.service, 80, [who.second_pod], protocol="UDP")
    flow = (who.pod, 40000, who.service, 80)
    first, second, *_ = pieces(who, flow, IN, protocol="UDP")
    lab.run("from_pod", first)
    _, last_hop, *_ = pieces(who, flow, {**IN, "ttl": 1}, protocol="UDP")
    result = lab.run("from_pod", last_hop)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_POD, Verdict.DROP_TTL_EXPIRED): 1},
    )
    assert lab.run("from_pod", second).code == REDIRECT
