# SPDX-License-Identifier: Apache-2.0
"""ICMP errors quote a packet: a part of it, with options, or of another protocol."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from tests.packet.icmp_errors import ERRORS, error, open_flow, quoted, router, serve
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import IN, POD_MAC, TO_POD, VETH_MAC, Addresses


@pytest.mark.parametrize("length", [8, 12, 20])
def test_a_quote_may_be_short(lab: Lab, who: Addresses, length: int) -> None:
    """RFC 792 asks for no more than eight bytes beside the IP header."""
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    end = length + (20 if who.version == 4 else 40)
    message, way = ERRORS[who.version][0], router(who)
    quotes = [bytes(quoted(who, flow, payload=""))[:end] for flow in (went, asked)]
    if length == 20:
        quotes[1] = quotes[1][: end - 4] + quotes[0][end - 4 : end - 2] + quotes[1][end - 2 :]
    result = lab.run("from_uplink", error(who, way, who.pod, message, quotes[0], IN))
    assert result.packet == error(who, way, who.pod, message, quotes[1], TO_POD)


def test_a_quoted_sctp_packet(lab: Lab, who: Addresses) -> None:
    """The checksum stays, as only a part of what it covers may be quoted."""
    lab.service(who.service, 80, [who.remote_pod], protocol="SCTP")
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    packets = [
        who.ip(source, destination) / SCTP(sport=source_port, dport=port, tag=7, chksum=99)
        for source, source_port, destination, port in (asked, went)
    ]
    opened = lab.run("from_pod", Ether(src=POD_MAC, dst=VETH_MAC) / packets[0])
    assert opened.code == REDIRECT, opened.counted
    message, way = ERRORS[who.version][0], router(who)
    result = lab.run("from_uplink", error(who, way, who.pod, message, packets[1], IN))
    assert result.packet == error(who, way, who.pod, message, packets[0], TO_POD)


@pytest.mark.parametrize("length", [0, 3, 19, 21])
def test_a_quote_that_is_too_short_stays_as_it_is(lab: Lab, who: Addresses, length: int) -> None:
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    quote = bytes(quoted(who, (who.pod, 40000, who.remote_pod, 8080)))[:length]
    message, way = ERRORS[who.version][0], router(who)
    result = lab.run("from_uplink", error(who, way, who.pod, message, quote, IN))
    assert result.packet == error(who, way, who.pod, message, quote, TO_POD)


def with_headers(who: Addresses, packet: Packet) -> Packet:
    """The packet with IPv4 options, or IPv6 extension headers and as a first fragment."""
    if who.version == 4:
        packet.options = [IPOption_NOP()] * 8
        packet.ihl = packet.len = packet.chksum = None
        return IP(bytes(packet))
    transport = packet.payload
    packet.remove_payload()
    packet.nh = packet.plen = None
    return IPv6(bytes(packet / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1, id=9) / transport))


def test_a_quoted_packet_with_options(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    message, way = ERRORS[who.version][1], router(who)
    quotes = [with_headers(who, quoted(who, flow)) for flow in (went, asked)]
    quotes[1][TCP].chksum = quotes[0][TCP].chksum
    result = lab.run("from_uplink", error(who, way, who.pod, message, quotes[0], IN))
    assert result.packet == error(who, way, who.pod, message, quotes[1], TO_POD)


def test_an_error_with_options(lab: Lab, who: Addresses) -> None:
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    message, way = ERRORS[who.version][1], router(who)
    quotes = [quoted(who, flow, payload="") for flow in (went, asked)]
    frames = []
    for quote, where in ((bytes(quotes[0]), IN), (bytes(quotes[1]), TO_POD)):
        short = quote[:28] if who.version == 4 else quote[:48]
        ethernet = Ether(src=where["smac"], dst=where["dmac"])
        ip = who.ip(way, who.pod, where["ttl"])
        if who.version == 4:
            ip.options = [IPOption_NOP()] * 4
        else:
            ip = ip / IPv6ExtHdrDestOpt()
        frames.append(bytes(ethernet / ip / message / short))
    assert lab.run("from_uplink", frames[0]).packet == frames[1]
