# SPDX-License-Identifier: Apache-2.0
"""Masqueraded pods: fragments in any order, ICMP errors both ways, packets that are too big or out of hops, routes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.datapath.config import pack_networks
from kubypass.kernel.features import probe_features
from kubypass.model.cidr import parse_cidr
from kubypass.model.verdict import Verdict
from tests.packet.fragments import ORDERS, alike, follow, fragments, in_order
from tests.packet.icmp_errors import ERRORS, check, error, router
from tests.packet.icmp_replies import MTU, answer, expired, told, too_big
from tests.packet.lab import PASS, REDIRECT
from tests.packet.outside import echo, outside, uplink
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, V6, Addresses, segment
from tests.packet.snat import tuple_of
from tests.packet.uplink import NO_SECOND_UPLINK, SECOND_UPLINK, run_inside

PORT = 443
NARROW = {4: "203.0.113.66", 6: "2001:db8:cafe::66"}


@pytest.fixture(scope="module", autouse=True)
def routes(netns: str) -> Iterator[None]:
    """A server behind something narrow."""
    ways = [(NARROW[4], "192.168.1.1"), (NARROW[6], "fd00:c0a8:1::1")]
    for there, gateway in ways:
        run_inside(netns, "ip", *f"route add {there} via {gateway} mtu lock {MTU}".split())
    yield
    for there, _ in ways:
        run_inside(netns, "ip", "route", "delete", there)


def test_fragments_there_and_back(netns: str, who: Addresses, protocol: str) -> None:
    lab = outside(netns)
    request, seen = (who.pod, 40000, who.client, PORT), (who.node, 40000, who.client, PORT)
    follow(lab, who, "from_pod", request, seen, TO_NETWORK, protocol=protocol)
    reply, back = (who.client, PORT, who.node, 40000), (who.client, PORT, who.pod, 40000)
    follow(lab, who, "from_uplink", reply, back, TO_POD, protocol=protocol, flags="SA")


@pytest.mark.parametrize("order", [order for order in ORDERS if order[0]], ids=str)
def test_fragments_in_any_order(
    netns: str, who: Addresses, protocol: str, order: tuple[int, int, int]
) -> None:
    lab = outside(netns)
    request, seen = (who.pod, 40000, who.client, PORT), (who.node, 40000, who.client, PORT)
    reply, back = (who.client, PORT, who.node, 40000), (who.client, PORT, who.pod, 40000)
    rows = [
        ("from_pod", request, seen, TO_NETWORK, "S"),
        ("from_uplink", reply, back, TO_POD, "SA"),
    ]
    for program, flow, to, where, flags in rows:
        options = {"protocol": protocol, "flags": flags, "payload": alike(who, protocol)}
        sent = fragments(who, flow, IN, **options)
        in_order(lab, program, sent, fragments(who, to, where, **options), order)


def parts(who: Addresses, message: Packet) -> list[bytes]:
    """The fragments of an echo message."""
    ethernet, ip = Ether(src=message.src, dst=message.dst), message.payload
    if who.version == 4:
        found = fragment(IP(bytes(ip)), 1000)
    else:
        icmp = IPv6(bytes(ip)).payload  # with its checksum
        ip.remove_payload()
        ip.plen = None
        found = fragment6(ip / IPv6ExtHdrFragment(id=7, nh=58) / icmp, 1100)
    return [bytes(ethernet / each) for each in found]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_long_ping_in_any_order(netns: str, who: Addresses, order: tuple[int, int, int]) -> None:
    lab, payload = outside(netns), b"12345678" * (366 if who.version == 4 else 385)
    there = [
        parts(who, echo(who, source, who.client, 5000, where, payload=payload))
        for source, where in ((who.pod, IN), (who.node, TO_NETWORK))
    ]
    back = [
        parts(who, echo(who, who.client, target, 5000, where, reply=True, payload=payload))
        for target, where in ((who.node, IN), (who.pod, TO_POD))
    ]
    for program, (sent, wanted) in (("from_pod", there), ("from_uplink", back)):
        assert len(sent) == 3
        in_order(lab, program, sent, wanted, order)


def test_errors_about_what_a_pod_has_sent(netns: str, who: Addresses) -> None:
    """From the server and from a router on the way."""
    lab = outside(netns)
    request, seen = (who.pod, 40000, who.client, PORT), (who.node, 40000, who.client, PORT)
    for protocol in ("TCP", "UDP"):
        lab.run("from_pod", segment(who, request, protocol=protocol))
    for source in (who.client, router(who)):
        arrives, leaves = (source, who.node, seen), (source, who.pod, request)
        check(lab, who, "from_uplink", arrives, leaves, TO_POD)


def test_errors_of_a_pod_about_what_it_got(netns: str, who: Addresses) -> None:
    lab = outside(netns)
    for protocol in ("TCP", "UDP"):
        request = segment(who, (who.pod, 40000, who.client, PORT), protocol=protocol)
        lab.run("from_pod", request)
    got, sent = (who.client, PORT, who.pod, 40000), (who.client, PORT, who.node, 40000)
    arrives, leaves = (who.pod, who.client, got), (who.node, who.client, sent)
    check(lab, who, "from_pod", arrives, leaves, TO_NETWORK)


def test_errors_about_a_ping(netns: str, who: Addresses) -> None:
    """Its identifier is that of the pod again, also in the quotation."""
    lab = outside(netns)
    lab.run("from_pod", echo(who, who.second_pod, who.client, 5000, IN))
    result = lab.run("from_pod", echo(who, who.pod, who.client, 5000, IN))
    new = int.from_bytes(result.packet[{4: 38, 6: 58}[who.version] :][:2], "big")
    assert new != 5000
    on_way = echo(who, who.node, who.client, new, {**TO_NETWORK, "ttl": 1}).payload
    at_home = echo(who, who.pod, who.client, 5000, {**TO_NETWORK, "ttl": 1}).payload
    quote = bytearray(bytes(at_home))
    checksum = {4: 22, 6: 42}[who.version]
    quote[checksum : checksum + 2] = bytes(on_way)[checksum : checksum + 2]
    for message in ERRORS[who.version]:
        arrives = error(who, router(who), who.node, message, on_way, IN)
        wanted = error(who, router(who), who.pod, message, bytes(quote), TO_POD)
        result = lab.run("from_uplink", arrives)
        assert (result.code, result.packet) == (REDIRECT, wanted), message.summary()


def too_long(who: Addresses, protocol: str) -> Packet:
    header = {4: 20, 6: 40}[who.version] + {"TCP": 20, "UDP": 8, "ICMP": 8}[protocol]
    text = "x" * (MTU + 1 - header)
    if protocol == "ICMP":
        packet = echo(who, who.pod, NARROW[who.version], 5000, IN, payload=text.encode())
    else:
        flow = (who.pod, 40000, NARROW[who.version], PORT)
        packet = segment(who, flow, protocol=protocol, payload=text, **IN)
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "ICMP"])
def test_what_does_not_fit_is_told_to_the_pod(netns: str, who: Addresses, protocol: str) -> None:
    lab, sent = outside(netns), too_long(who, protocol)
    for _ in range(2):  # of a new flow, and of one that is known
        wanted = answer(who, who.node, sent, too_big(who))
        told(lab.run("from_pod", sent), Verdict.ANSWER_TOO_BIG, wanted)


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "ICMP"])
def test_the_node_is_a_hop(netns: str, who: Addresses, protocol: str) -> None:
    """A traceroute from a pod begins with it."""
    lab, hop = outside(netns), {**IN, "ttl": 1}
    if protocol == "ICMP":
        sent = echo(who, who.pod, who.client, 5000, hop)
    else:
        sent = segment(who, (who.pod, 40000, who.client, PORT), protocol=protocol, **hop)
    for _ in range(2):
        wanted = answer(who, who.node, sent, expired(who))
        told(lab.run("from_pod", sent), Verdict.ANSWER_TTL_EXPIRED, wanted)


def test_a_long_segment_that_is_cut_later(netns: str, who: Addresses) -> None:
    lab, options = outside(netns), {"payload": "x" * 3000, "flags": "PA"}
    lab.run("from_pod", segment(who, (who.pod, 40000, who.client, PORT)))
    sent = segment(who, (who.pod, 40000, who.client, PORT), **options, **IN)
    seen = segment(who, (who.node, 40000, who.client, PORT), **options, **TO_NETWORK)
    result = lab.run("from_pod", sent, segment_bytes=1000)
    assert (result.code, result.packet) == (REDIRECT, bytes(seen))


SECOND = f"""{SECOND_UPLINK}
route add 203.0.113.128/25 via 192.168.2.1
route add 2001:db8:2::/64 via fd00:c0a8:2::1
route add 203.0.113.64/26 via 192.168.1.1 src 192.168.1.131
route add 2001:db8:3::/64 via fd00:c0a8:1::1 src fd00:c0a8:1::131
"""
SERVERS = {
    4: {"second": "203.0.113.200", "preferred": "203.0.113.100", "first": "203.0.113.9"},
    6: {"second": "2001:db8:2::9", "preferred": "2001:db8:3::9", "first": "2001:db8:cafe::9"},
}
SOURCES = {
    4: {"second": "192.168.2.31", "preferred": "192.168.1.131", "first": "192.168.1.31"},
    6: {"second": "fd00:c0a8:2::31", "preferred": "fd00:c0a8:1::131", "first": "fd00:c0a8:1::31"},
}


@pytest.fixture
def second(netns: str) -> Iterator[int]:
    """Another uplink, and an address that one route prefers; the device's index."""
    run_inside(netns, "ip", "-batch", "-", lines=SECOND)
    yield int(run_inside(netns, "ip", "-o", "link", "show", "eth1").split(":")[0])
    undo = "route delete 203.0.113.64/26\nroute delete 2001:db8:3::/64\n"
    run_inside(netns, "ip", "-batch", "-", lines=undo + NO_SECOND_UPLINK)


@pytest.mark.parametrize("told_by_kernel", [True, False])
@pytest.mark.parametrize("where", ["first", "second", "preferred"])
def test_the_source_is_that_of_the_route(
    netns: str, second: int, who: Addresses, where: str, told_by_kernel: bool
) -> None:
    """A kernel that does not say what a route prefers leaves it at the device's address."""
    if told_by_kernel and not probe_features().route_source:
        pytest.skip("this kernel's FIB lookup does not tell the source (Linux 6.7)")
    lab = outside(netns, route_source=int(told_by_kernel))
    uplink(lab, second, SOURCES[4]["second"], SOURCES[6]["second"])
    server = SERVERS[who.version][where]
    result = lab.run("from_pod", segment(who, (who.pod, 40000, server, PORT)))
    wanted = where if told_by_kernel or where == "second" else "first"
    assert tuple_of(result.packet) == (SOURCES[who.version][wanted], 40000, server, PORT)
    back = segment(who, (server, PORT, SOURCES[who.version][wanted], 40000), flags="SA")
    wanted_back = segment(who, (server, PORT, who.pod, 40000), flags="SA", **TO_POD)
    assert lab.run("from_uplink", back).packet == bytes(wanted_back)


def test_without_a_route_the_stack_answers(netns: str, who: Addresses) -> None:
    """It tells the pod that the network is unreachable."""
    lab, family = outside(netns), f"-{who.version}"
    there = {4: "192.88.99.7", 6: "2001:db8:4::7"}[who.version]
    run_inside(netns, "ip", family, "route", "add", "unreachable", there)
    try:
        request = segment(who, (who.pod, 40000, there, PORT))
        result = lab.run("from_pod", request)
        assert (result.code, result.packet) == (0, bytes(request))
        assert not lab.flows()
    finally:
        run_inside(netns, "ip", family, "route", "delete", "unreachable", there)


def test_multicast_and_links_stay(netns: str) -> None:
    lab = outside(netns)
    for who, group in ((V4, "239.1.2.3"), (V6, "ff05::2"), (V6, "fe80::9")):
        request = segment(who, (who.pod, 40000, group, PORT), protocol="UDP")
        result = lab.run("from_pod", request)
        assert (result.code, result.packet) == (PASS, bytes(request))


@pytest.mark.parametrize("networks", [1, 2, 4])
def test_networks_that_settings_name_are_inside_without_a_lookup(
    netns: str, who: Addresses, networks: int
) -> None:
    named = ["fd00:10:233::/48", "10.233.0.0/16", "192.0.2.0/24", "2001:db8:9::/64"][:networks]
    lab = outside(
        netns,
        inside_network_count=networks,
        inside_networks=pack_networks(map(parse_cidr, named)),
    )
    lab.put_inside({})
    result = lab.run("from_pod", segment(who, (who.pod, 40000, who.remote_pod, PORT)))
    named_too = who.version == 6 or networks > 1
    assert tuple_of(result.packet)[0] == (who.pod if named_too else who.node)
    result = lab.run("from_pod", segment(who, (who.pod, 40000, who.client, PORT)))
    assert tuple_of(result.packet)[0] == who.node
    lab.reset()
    lab.run("from_uplink", segment(who, (who.remote_pod, 500, who.pod, 53), protocol="UDP"))
    assert bool(lab.flows()) != named_too
