# SPDX-License-Identifier: Apache-2.0
"""Who sends: a pod's packets carry one of its addresses, whatever they are and wherever they go."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from kubypass.datapath import layout
from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab, Result, config
from tests.packet.packets import POD_MAC, V4, V6, VETH_MAC, Addresses, segment
from tests.packet.sources import MINE, OTHERS, dropped
from tests.packet.uplink import POD_DEVICES


def passes(result: Result) -> None:
    assert Verdict.DROP_FOREIGN_SOURCE not in {verdict for _, verdict in result.counted}
    queued = result.counted[Hook.FROM_POD, Verdict.QUEUED]
    assert result.code == SHOT if queued else result.code in {PASS, REDIRECT}


def forged(who: Addresses) -> list[str]:
    """Addresses that are not the pod's: another pod's, nodes', a service's, and some of nobody here."""
    special = {4: ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.1.1"]}  # noqa: S104
    others = special.get(who.version, ["::1", "::", "ff02::1", "fe80::99", "::ffff:10.233.64.14"])
    some = [who.second_pod, who.remote_pod, who.node, who.other_node, who.service, who.client]
    return [*some, *others]


def frame(packet: Packet) -> Packet:
    return Ether(src=POD_MAC, dst=VETH_MAC) / packet


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize("target", ["second_pod", "node", "remote_pod", "service", "client"])
def test_a_forged_segment_goes_nowhere(
    lab: Lab, who: Addresses, protocol: str, target: str
) -> None:
    lab.service(who.service, 80, [who.second_pod], protocol=protocol)
    for source in forged(who):
        to = getattr(who, target)
        packet = segment(who, (source, 40000, to, 80), protocol=protocol)
        result = lab.run("from_pod", packet, device=MINE)
        if source.startswith("::ffff"):
            assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_MALFORMED): 1}
        else:
            dropped(result)
    assert not lab.flows()
    passes(lab.run("from_pod", segment(who, (who.pod, 1, who.second_pod, 80)), device=MINE))


def test_a_forged_packet_of_a_known_flow_goes_nowhere(
    lab: Lab, who: Addresses, protocol: str
) -> None:
    """Neither as its client nor, which would be an answer to a resolver, as its server."""
    lab.service(who.service, 53, [who.second_pod], protocol=protocol)
    lab.run("from_pod", segment(who, (who.pod, 40000, who.service, 53), protocol=protocol))
    before = lab.flows()
    as_client = segment(who, (who.pod, 40000, who.service, 53), protocol=protocol)
    dropped(lab.run("from_pod", as_client, device=OTHERS))
    for source, port in ((who.second_pod, 8080), (who.service, 53)):
        answer = segment(who, (source, port, who.pod, 40000), protocol=protocol, flags="SA")
        dropped(lab.run("from_pod", answer, device=POD_DEVICES[2]))
    assert lab.flows() == before


def test_source_ranges_hold(lab: Lab, who: Addresses, protocol: str) -> None:
    """A pod claims to be the one client that a load balancer's address admits."""
    ranged = ServiceFlag.LOAD_BALANCER | ServiceFlag.SOURCE_RANGES
    lab.service(who.service, 81, [who.second_pod], protocol=protocol, flags=ranged)
    bits = 32 if who.version == 4 else 128
    lab.source_range(who.service, 81, f"{who.client}/{bits}", protocol)
    packet = segment(who, (who.client, 40000, who.service, 81), protocol=protocol)
    dropped(lab.run("from_pod", packet, device=MINE))


def test_what_has_no_ports_is_looked_at_too(lab: Lab, who: Addresses) -> None:
    echo = ICMP() if who.version == 4 else ICMPv6EchoRequest()
    number = {4: {"proto": 47}, 6: {"nh": 47}}[who.version]
    for source, check in ((who.second_pod, dropped), (who.pod, passes)):
        ip = who.ip(source, who.remote_pod)
        check(lab.run("from_pod", frame(ip / echo / b"ping"), device=MINE))
        other = ip.copy()
        for name, value in number.items():
            setattr(other, name, value)
        check(lab.run("from_pod", frame(other / Raw(b"GRE, or anything")), device=MINE))


def test_later_fragments_are_looked_at_too(lab: Lab) -> None:
    for source, check in ((V4.second_pod, dropped), (V4.pod, passes)):
        ip = IP(src=source, dst=V4.remote_pod, frag=100, proto=17, id=9)
        check(lab.run("from_pod", frame(ip / Raw(b"the rest of it")), device=MINE))


def test_the_base_header_tells_who_sends(lab: Lab) -> None:
    for source, check in ((V6.second_pod, dropped), (V6.pod, passes)):
        for header in (
            IPv6ExtHdrRouting(segleft=1, addresses=[V6.remote_pod]),
            IPv6ExtHdrDestOpt(),
            IPv6ExtHdrHopByHop(),
        ):
            packet = frame(IPv6(src=source, dst=V6.remote_pod) / header / UDP(sport=1, dport=2))
            check(lab.run("from_pod", packet, device=MINE))


@pytest.fixture
def third(lab: Lab) -> int:
    """The device of a pod with many addresses, of which no slot has room for all."""
    device = POD_DEVICES[3]
    for address in ("10.233.64.77", "10.233.64.78", "fd00:10:233:64::77", "fd00:10:233:64::78"):
        lab.local_address(address, LocalAddressKind.POD, device)
    return device


def test_a_pod_may_have_several_addresses(lab: Lab, third: int) -> None:
    for who, text in ((V4, "10.233.64."), (V6, "fd00:10:233:64::")):
        for last in ("77", "78"):
            packet = segment(who, (text + last, 40000, who.pod, 80))
            passes(lab.run("from_pod", packet, device=third))
            dropped(lab.run("from_pod", packet, device=MINE))


def test_a_pod_of_one_family_sends_nothing_in_the_other(lab: Lab) -> None:
    device = POD_DEVICES[4]
    lab.local_address("10.233.64.99", LocalAddressKind.POD, device)
    passes(lab.run("from_pod", segment(V4, ("10.233.64.99", 1, V4.pod, 80)), device=device))
    for source in ("::", "fd00:10:233:64::99"):
        dropped(lab.run("from_pod", segment(V6, (source, 1, V6.pod, 80)), device=device))
    mapped = segment(V6, ("::ffff:10.233.64.99", 1, V6.pod, 80))
    result = lab.run("from_pod", mapped, device=device)
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.DROP_MALFORMED): 1}


def test_a_slot_that_another_device_has_costs_a_lookup_only(lab: Lab) -> None:
    lab.maps["pod_devices"].update(struct.pack("=I", MINE), bytes(layout.POD_DEVICE_SIZE))
    for who in (V4, V6):
        passes(lab.run("from_pod", segment(who, (who.pod, 1, who.second_pod, 80)), device=MINE))
        dropped(lab.run("from_pod", segment(who, (who.second_pod, 1, who.pod, 80)), device=MINE))


FRAMES = {
    "two tags": Dot1Q(vlan=0) / Dot1Q(vlan=0) / IP(src=V4.client, dst=V4.pod) / UDP(),
    "QinQ": Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(src=V4.client, dst=V4.pod) / UDP(),
    "MPLS": Raw(bytes.fromhex("0001f140") + bytes(IP(src=V4.client, dst=V4.pod) / UDP())),
    "802.1X": Raw(b"\1\1\0\0"),
}

ETHERTYPES = {"MPLS": 0x8847, "802.1X": 0x888E}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_may_hide_a_packet_is_dropped(lab: Lab, name: str) -> None:
    packet = frame(FRAMES[name])
    if name in ETHERTYPES:
        packet.type = ETHERTYPES[name]
    dropped(lab.run("from_pod", packet))


def errors(who: Addresses, source: str, quoted: Packet) -> list[Packet]:
    ip = who.ip(source, quoted.src)
    if who.version == 4:
        return [ip / ICMP(type=3, code=code, nexthopmtu=68) / quoted for code in (3, 4)]
    return [ip / kind / quoted for kind in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig())]


def test_a_pod_tells_of_packets_that_were_sent_to_it(lab: Lab, who: Addresses) -> None:
    """An error about another's connection would end it, or make its packets small."""
    for sender in (who.second_pod, who.remote_pod, who.node):
        to_other = who.ip(sender, who.client) / TCP(sport=40000, dport=443)
        for error in errors(who, who.pod, to_other):
            dropped(lab.run("from_pod", frame(error), device=MINE))
        for error in errors(who, who.pod, who.ip(sender, who.pod) / UDP(sport=4, dport=53)):
            passes(lab.run("from_pod", frame(error), device=MINE))


def test_such_an_error_does_not_hide(lab: Lab) -> None:
    """It is no first fragment, and it is not behind more extension headers than are parsed."""
    v4, v6 = (
        errors(who, who.pod, who.ip(who.second_pod, who.client) / TCP(sport=4, dport=5))[0]
        for who in (V4, V6)
    )
    v4.flags = "MF"
    dropped(lab.run("from_pod", frame(v4), device=MINE))
    chain: Packet = IPv6(src=v6.src, dst=v6.dst)
    for _ in range(7):
        chain /= IPv6ExtHdrDestOpt()
    dropped(lab.run("from_pod", frame(chain / v6.payload), device=MINE))


def test_routers_in_pods_and_the_setting(lab: Lab, who: Addresses) -> None:
    foreign = segment(who, (who.client, 40000, who.second_pod, 80))
    tagged = Ether(src=POD_MAC, dst=VETH_MAC) / Dot1Q(vlan=0) / Dot1Q(vlan=0) / Raw(bytes(40))
    device = struct.pack("=I", MINE)
    try:
        lab.maps["foreign_sources"].update(device, struct.pack("=I", 1))
        for packet in (foreign, tagged):
            passes(lab.run("from_pod", packet, device=MINE))
        dropped(lab.run("from_pod", foreign, device=OTHERS))
    finally:
        lab.maps["foreign_sources"].delete(device)
    off = replace(lab, maps={}, programs={})
    off.load(config(verify_sources=0))
    for packet in (foreign, tagged):
        passes(off.run("from_pod", packet, device=MINE))


@pytest.mark.parametrize("program", ["from_uplink", "to_uplink", "to_pod"])
def test_only_pods_are_held_to_their_addresses(lab: Lab, who: Addresses, program: str) -> None:
    passes(lab.run(program, segment(who, (who.client, 40000, who.second_pod, 80))))


def test_mapped_addresses_are_no_ipv6(lab: Lab) -> None:
    """The maps hold IPv4 addresses so: from outside, too, such a packet would be taken for IPv4's."""
    lab.service(V4.service, 80, [V4.pod])
    for source, to in (("::ffff:203.0.113.9", V6.pod), (V6.client, "::ffff:10.233.30.47")):
        for program in ("from_uplink", "from_pod"):
            result = lab.run(program, segment(V6, (source, 40000, to, 80)))
            assert {verdict for _, verdict in result.counted} == {Verdict.DROP_MALFORMED}
