# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about translated packets, from wherever they come, and pings of service addresses."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.lab import (
    IN,
    PASS,
    POD_MAC,
    REDIRECT,
    SHOT,
    TO_NETWORK,
    TO_POD,
    VETH_MAC,
    Lab,
    config,
    segment,
)

NODE_PORT = ServiceFlag.NODE_PORT
ERRORS = {
    4: [
        ICMP(type=3, code=3),
        ICMP(type=3, code=4, nexthopmtu=1400),
        ICMP(type=11),
        ICMP(type=12, ptr=8),
    ],
    6: [
        ICMPv6DestUnreach(code=4),
        ICMPv6PacketTooBig(mtu=1400),
        ICMPv6TimeExceeded(),
        ICMPv6ParamProblem(ptr=6),
    ],
}


def router(who) -> str:
    """Somewhere on the way."""
    return "198.51.100.1" if who.version == 4 else "2001:db8:1::1"


def quoted(who, flow, **options) -> Packet:
    """The IP packet of a flow, as an error quotes it."""
    return segment(who, flow, **{"ttl": 5, **options})[1]


def error(who, source, destination, message, quote, where) -> bytes:
    """An error as a frame; `quote` is a packet, or what of it is quoted."""
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    return bytes(ethernet / who.ip(source, destination, where["ttl"]) / message / bytes(quote))


def check(lab, who, program, arrives, leaves, where, code=REDIRECT, *, own=None):
    """An error, of (source, destination, quoted flow), and what it becomes; every kind of error.

    `own` is the source of those that do not keep it: all but those that trace a way.
    """
    traced, routed = ERRORS[who.version][2], leaves
    for message in ERRORS[who.version]:
        leaves = (own, *routed[1:]) if own and message is not traced else routed
        for protocol in ("TCP", "UDP"):
            sent, wanted = (
                error(who, row[0], row[1], message, quoted(who, row[2], protocol=protocol), way)
                for row, way in ((arrives, IN), (leaves, where))
            )
            # What is quoted of the transport's checksum stays as it was on the way.
            at = len(sent) - len(quoted(who, arrives[2], protocol=protocol))
            at += {4: 20, 6: 40}[who.version] + {"TCP": 16, "UDP": 6}[protocol]
            wanted = _keep_checksum(who, wanted, sent[at : at + 2], at)
            result = lab.run(program, sent)
            assert (result.code, result.packet) == (code, wanted), (message.summary(), protocol)


def _keep_checksum(who, frame: bytes, checksum: bytes, at: int) -> bytes:
    frame = frame[:at] + checksum + frame[at + 2 :]
    if who.version == 4:
        packet = IP(frame[14:])
        del packet[ICMP].chksum
    else:
        packet = IPv6(frame[14:])
        del packet[IPv6].payload.cksum
    return frame[:14] + bytes(packet)


def open_flow(lab, who, program, flow):
    """The first packets of a TCP and a UDP connection to a service, which is there for both."""
    for protocol in ("TCP", "UDP"):
        result = lab.run(program, segment(who, flow, protocol=protocol))
        assert result.code in (PASS, REDIRECT), result.counted


def serve(lab, address, port, backends, **options):
    for protocol in ("TCP", "UDP"):
        lab.service(address, port, backends, protocol=protocol, **options)


def test_about_a_request_to_a_backend_elsewhere(lab, who):
    """DNAT alone: a router's error goes to the pod that asked, about what this has sent."""
    serve(lab, who.service, 80, [who.remote_pod])
    asked = (who.pod, 40000, who.service, 80)
    open_flow(lab, who, "from_pod", asked)
    went = (who.pod, 40000, who.remote_pod, 8080)
    way = router(who)
    check(lab, who, "from_uplink", (way, who.pod, went), (way, who.pod, asked), TO_POD)
    backend, service = who.remote_pod, who.service
    check(lab, who, "from_uplink", (backend, who.pod, went), (service, who.pod, asked), TO_POD)


def test_about_a_request_to_a_backend_of_the_node(lab, who):
    serve(lab, who.service, 80, [who.second_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.second_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    arrives, leaves = (who.second_pod, who.pod, went), (who.service, who.pod, asked)
    check(lab, who, "from_pod", arrives, leaves, TO_POD)


def test_about_a_masqueraded_request(lab, who):
    """The client outside gets it, about its NodePort."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    asked, went = (who.client, 40000, who.node, 30080), (who.node, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_uplink", asked)
    way = router(who)
    arrives, leaves = (way, who.node, went), (way, who.client, asked)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK, own=who.node)
    arrives, leaves = (who.remote_pod, who.node, went), (who.node, who.client, asked)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK)


def test_of_a_client_about_a_reply_of_a_backend_elsewhere(lab, who):
    """The backend gets it: it knows the client by this node's address."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    went, said = (who.node, 30080, who.client, 40000), (who.remote_pod, 8080, who.node, 40000)
    way = router(who)
    arrives, leaves = (way, who.node, went), (way, who.remote_pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK, own=who.node)
    arrives, leaves = (who.client, who.node, went), (who.node, who.remote_pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_NETWORK)


def test_of_a_client_about_a_reply_of_a_backend_of_the_node(lab, who):
    flags = NODE_PORT | ServiceFlag.LOCAL
    serve(lab, who.node, 30080, [who.pod], local=[who.pod], flags=flags)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    went, said = (who.node, 30080, who.client, 40000), (who.pod, 8080, who.client, 40000)
    arrives, leaves = (who.client, who.node, went), (who.client, who.pod, said)
    check(lab, who, "from_uplink", arrives, leaves, TO_POD)


def test_of_a_pod_about_a_reply(lab, who):
    serve(lab, who.service, 80, [who.second_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    went, said = (who.service, 80, who.pod, 40000), (who.second_pod, 8080, who.pod, 40000)
    arrives, leaves = (who.pod, who.service, went), (who.pod, who.second_pod, said)
    check(lab, who, "from_pod", arrives, leaves, TO_POD)


def test_of_the_node_whose_network_has_the_backend(lab, who):
    flags = NODE_PORT | ServiceFlag.LOCAL
    serve(lab, who.node, 30080, [who.node], local=[who.node], flags=flags)
    asked, went = (who.client, 40000, who.node, 30080), (who.client, 40000, who.node, 8080)
    open_flow(lab, who, "from_uplink", asked)
    arrives, leaves = (who.node, who.client, went), (who.node, who.client, asked)
    check(lab, who, "to_uplink", arrives, leaves, IN, PASS)


def test_of_the_node_to_a_pod(lab, who):
    serve(lab, who.service, 80, [who.node])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.node, 8080)
    open_flow(lab, who, "from_pod", asked)
    arrives, leaves = (who.node, who.pod, went), (who.service, who.pod, asked)
    check(lab, who, "to_pod", arrives, leaves, IN, PASS)


def test_about_a_connection_of_the_node_itself(lab, who):
    """A socket that was there before the programs: its packets are translated on their way out."""
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.node, 40000, who.service, 80), (who.node, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "to_uplink", asked)
    way = router(who)
    check(lab, who, "from_uplink", (way, who.node, went), (way, who.node, asked), IN, PASS)


def test_about_other_packets_they_stay_as_they_are(lab, who):
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    way, other = router(who), (who.pod, 40001, who.remote_pod, 8080)
    check(lab, who, "from_uplink", (way, who.pod, other), (way, who.pod, other), TO_POD)
    sent = quoted(who, (who.pod, 40000, who.remote_pod, 8080))
    stray = error(who, way, who.second_pod, ERRORS[who.version][0], sent, IN)
    result = lab.run("from_uplink", stray)
    assert (
        result.packet[12:]
        == error(who, way, who.second_pod, ERRORS[who.version][0], sent, TO_POD)[12:]
    ), "it quotes what its receiver has not sent"


def test_of_a_flow_that_is_over(lab, who):
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    lab.expire_flows()
    went = (who.pod, 40000, who.remote_pod, 8080)
    row = (router(who), who.pod, went)
    check(lab, who, "from_uplink", row, row, TO_POD)


@pytest.mark.parametrize("length", [8, 12, 20])
def test_a_quote_may_be_short(lab, who, length):
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


def test_a_quoted_sctp_packet(lab, who):
    """Its checksum, of which only a part may be quoted, stays."""
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
def test_a_quote_that_is_too_short_stays_as_it_is(lab, who, length):
    serve(lab, who.service, 80, [who.remote_pod])
    open_flow(lab, who, "from_pod", (who.pod, 40000, who.service, 80))
    quote = bytes(quoted(who, (who.pod, 40000, who.remote_pod, 8080)))[:length]
    message, way = ERRORS[who.version][0], router(who)
    result = lab.run("from_uplink", error(who, way, who.pod, message, quote, IN))
    assert result.packet == error(who, way, who.pod, message, quote, TO_POD)


def with_headers(who, packet: Packet) -> Packet:
    """The packet with IPv4 options, or IPv6 extension headers and as a first fragment."""
    if who.version == 4:
        packet.options = [IPOption_NOP()] * 8
        packet.ihl = packet.len = packet.chksum = None
        return IP(bytes(packet))
    transport = packet.payload
    packet.remove_payload()
    packet.nh = packet.plen = None
    return IPv6(bytes(packet / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1, id=9) / transport))


def test_a_quoted_packet_with_options(lab, who):
    serve(lab, who.service, 80, [who.remote_pod])
    asked, went = (who.pod, 40000, who.service, 80), (who.pod, 40000, who.remote_pod, 8080)
    open_flow(lab, who, "from_pod", asked)
    message, way = ERRORS[who.version][1], router(who)
    quotes = [with_headers(who, quoted(who, flow)) for flow in (went, asked)]
    quotes[1][TCP].chksum = quotes[0][TCP].chksum
    result = lab.run("from_uplink", error(who, way, who.pod, message, quotes[0], IN))
    assert result.packet == error(who, way, who.pod, message, quotes[1], TO_POD)


def test_an_error_with_options(lab, who):
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


def test_the_last_hop_of_an_error_is_silent(lab, who):
    """RFC 1122 section 3.2.2: no errors about errors."""
    serve(lab, who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    open_flow(lab, who, "from_uplink", (who.client, 40000, who.node, 30080))
    quote = quoted(who, (who.node, 40000, who.remote_pod, 8080))
    message = ERRORS[who.version][0]
    frame = error(who, router(who), who.node, message, quote, {**IN, "ttl": 1})
    result = lab.run("from_uplink", frame)
    assert (result.code, dict(result.counted)) == (
        SHOT,
        {(Hook.FROM_UPLINK, Verdict.DROP_TTL_EXPIRED): 1},
    )


def echo(who, flow, where, *, reply: bool = False, number: int = 5) -> bytes:
    if who.version == 4:
        message = ICMP(type=0 if reply else 8, id=number, seq=3)
    else:
        kind = ICMPv6EchoReply if reply else ICMPv6EchoRequest
        message = kind(id=number, seq=3)
    ethernet = Ether(src=where["smac"], dst=where["dmac"])
    return bytes(ethernet / who.ip(flow[0], flow[1], where["ttl"]) / message / b"are you there?")


@pytest.fixture(scope="module")
def answering(place):
    made = Lab(place)
    made.load(config(answer_ping=1))
    return made


@pytest.mark.parametrize("program", ["from_pod", "to_uplink"])
def test_a_cluster_ip_answers_pings_where_that_is_set(answering, lab, who, program):
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
def test_pings_from_outside(answering, lab, who, kind, answered):
    answering.reset()
    answering.flags = lab.flags
    answering.service(who.service, 80, [who.remote_pod], flags=kind)
    request = echo(who, (who.client, who.service), IN)
    verdicts = [verdict for _, verdict in answering.run("from_uplink", request).counted]
    assert verdicts == [Verdict.ANSWER_ECHO if answered else Verdict.DROP_NO_SERVICE]


def test_pings_of_others_are_not_answered(answering, lab, who):
    answering.reset()
    answering.flags = lab.flags
    answering.service(who.service, 80, [who.remote_pod])
    for there in (who.second_pod, who.remote_pod, who.node):
        result = answering.run("from_pod", echo(who, (who.pod, there), IN))
        assert [verdict for _, verdict in result.counted] != [Verdict.ANSWER_ECHO]
    reply = echo(who, (who.pod, who.service), IN, reply=True)
    verdicts = [verdict for _, verdict in answering.run("from_pod", reply).counted]
    assert verdicts == [Verdict.DROP_NO_SERVICE]


def test_by_default_a_cluster_ip_answers_no_pings(lab, who):
    lab.service(who.service, 80, [who.remote_pod])
    result = lab.run("from_pod", echo(who, (who.pod, who.service), IN))
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_NO_SERVICE): 1}
