# SPDX-License-Identifier: Apache-2.0
"""Headers as they seldom are: options, chains of extensions, lengths that are not true, and those of BIG TCP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkData

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.headers import bare, between
from tests.packet.lab import REDIRECT, SHOT, Lab, Result
from tests.packet.packets import IN, POD_MAC, TO_POD, V4, V6, VETH_MAC, Addresses, Flow, segment


@pytest.fixture
def request_and_seen(lab: Lab, who: Addresses, protocol: str) -> tuple[Flow, Flow]:
    """A flow to a service, and as its backend sees it."""
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    return (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)


def dropped(result: Result, verdict: Verdict = Verdict.DROP_MALFORMED) -> None:
    assert (result.code, dict(result.counted)) == (SHOT, {(Hook.FROM_POD, verdict): 1})


def test_with_options(
    lab: Lab, who: Addresses, protocol: str, request_and_seen: tuple[Flow, Flow]
) -> None:
    frames = []
    for flow, where in zip(request_and_seen, (IN, TO_POD), strict=True):
        packet = segment(who, flow, protocol=protocol, **where)
        if who.version == 4:
            packet[IP].options = [IPOption_NOP()] * 40
        else:
            routing = IPv6ExtHdrRouting(segleft=0, addresses=["fd00::1"])
            packet = between(packet, IPv6ExtHdrHopByHop(), routing, IPv6ExtHdrDestOpt())
        frames.append(bytes(packet))
    result = lab.run("from_pod", frames[0])
    assert (result.code, result.packet) == (REDIRECT, frames[1])


def test_lengths_of_big_tcp(lab: Lab, who: Addresses) -> None:
    """The IP header's is zero; in IPv6 a hop-by-hop header may have it (RFC 2675), which Linux puts there itself."""
    lab.service(who.service, 80, [who.second_pod])
    flows = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    lab.run("from_pod", segment(who, flows[0]))
    frames = []
    for flow, where in zip(flows, (IN, TO_POD), strict=True):
        packet = segment(who, flow, flags="A", **where)
        if who.version == 6:
            packet = between(packet, IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)]))
        frames.append(bare(bytes(packet), length=0))
    result = lab.run("from_pod", frames[0], segment_bytes=1400)
    assert (result.code, result.packet) == (REDIRECT, frames[1])
    dropped(lab.run("from_pod", frames[0]))  # only what will be cut into segments is that big


@pytest.mark.parametrize("length", [1, 7, 19])
def test_a_length_without_room_for_the_headers(
    lab: Lab, who: Addresses, protocol: str, request_and_seen: tuple[Flow, Flow], length: int
) -> None:
    """The length is that of the IP header itself, in IPv4, or of the transport's."""
    request, _ = request_and_seen
    packet = bytes(segment(who, request, protocol=protocol))
    more = {4: [length], 6: []}[who.version]
    if protocol == "TCP" or length < 8:
        more.append(length + {4: 20, 6: 0}[who.version])
    for number in more:
        dropped(lab.run("from_pod", bare(packet, length=number)))


def test_ipv4_header_beyond_its_packet(lab: Lab) -> None:
    packet = bytearray(bytes(segment(V4, (V4.pod, 40000, V4.service, 80), payload="")))
    packet[14] = 0x4F
    dropped(lab.run("from_pod", bytes(packet)))


def test_ipv6_extensions_beyond_their_length(lab: Lab) -> None:
    packet = segment(V6, (V6.pod, 40000, V6.service, 80), payload="")
    packet = between(packet, IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(28))]))
    dropped(lab.run("from_pod", bare(bytes(packet), length=24)))
    packet[IPv6ExtHdrDestOpt].len = 255
    dropped(lab.run("from_pod", packet))


def test_a_chain_that_is_too_long_goes_by_its_addresses(lab: Lab) -> None:
    lab.service(V6.service, 80, [V6.second_pod])
    chain = [IPv6ExtHdrDestOpt() for _ in range(7)]
    plain = between(segment(V6, (V6.client, 40000, V6.second_pod, 80)), *chain)
    expected = plain.copy()
    expected.src, expected.dst, expected[IPv6].hlim = VETH_MAC, POD_MAC, 63
    assert lab.run("from_uplink", plain).packet == bytes(expected)
    to_service = between(segment(V6, (V6.client, 40000, V6.service, 80)), *chain)
    result = lab.run("from_uplink", to_service)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_NO_SERVICE): 1}


def test_on_its_way_to_another_destination_it_is_not_translated(lab: Lab) -> None:
    """The checksum covers the address that a routing header names last (RFC 8200 section 8.1)."""
    lab.service(V6.service, 80, [V6.second_pod])
    routing = IPv6ExtHdrRouting(segleft=1, addresses=["fd00::1"])
    packet = between(segment(V6, (V6.pod, 40000, V6.service, 80)), routing)
    dropped(lab.run("from_pod", packet), Verdict.DROP_NO_SERVICE)


def sctp(who: Addresses, flow: Flow, where: Mapping[str, Any]) -> bytes:
    source, source_port, destination, port = flow
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    ip = who.ip(source, destination, where["ttl"])
    data = SCTPChunkData(data=b"hello sctp!!", tsn=5)
    return bytes(ethernet / ip / SCTP(sport=source_port, dport=port, tag=77) / data)


def test_sctp_with_padding_behind_it(lab: Lab, who: Addresses) -> None:
    """The checksum covers what the IP header says, and not what a link has put behind."""
    lab.service(who.node, 30080, [who.pod], protocol="SCTP", flags=ServiceFlag.NODE_PORT)
    request, seen = (who.client, 40000, who.node, 30080), (who.node, 40000, who.pod, 8080)
    for padding in (b"", bytes(10)):
        result = lab.run("from_uplink", sctp(who, request, IN) + padding)
        assert (result.code, result.packet) == (REDIRECT, sctp(who, seen, TO_POD) + padding)


def test_sctp_of_unknown_length_is_dropped(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol="SCTP")
    packet = bare(sctp(who, (who.pod, 40000, who.service, 80), IN), length=0)
    dropped(lab.run("from_pod", packet, segment_bytes=1400), Verdict.DROP_REWRITE)


def test_sctp_in_fragments_goes_on_where_its_ports_stay(lab: Lab) -> None:
    """The first fragment does not have all that the checksum covers."""
    lab.service(V4.service, 80, [V4.second_pod], protocol="SCTP")
    lab.service(V4.service, 8080, [V4.second_pod], protocol="SCTP")
    for port, verdict in ((80, Verdict.DROP_FRAGMENT), (8080, Verdict.TO_POD)):
        packet = Ether(sctp(V4, (V4.pod, 40000 + port, V4.service, port), IN))
        packet[IP].flags, packet[IP].chksum = "MF", None
        counted = dict(lab.run("from_pod", packet).counted)
        assert counted == {(Hook.FROM_POD, verdict): 1}


def test_tcp_options_do_not_matter(lab: Lab, who: Addresses) -> None:
    lab.service(who.service, 80, [who.second_pod])
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("WScale", 7), ("NOP", None)]
    frames = []
    for flow, where in (
        ((who.pod, 40000, who.service, 80), IN),
        ((who.pod, 40000, who.second_pod, 8080), TO_POD),
    ):
        packet = segment(who, flow, **where)
        packet[TCP].options = options
        frames.append(bytes(packet))
    assert lab.run("from_pod", frames[0]).packet == frames[1]
