# SPDX-License-Identifier: Apache-2.0
"""Packets that no service has anything to do with: delivered to a pod, sent to the network, or left to the stack."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from kubypass.model.address import format_address, link_local_address
from kubypass.model.verdict import Hook, Verdict
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab
from tests.packet.packets import POD_MAC, TO_NETWORK, TO_POD, V4, V6, VETH_MAC, Addresses, segment


def test_pod_to_pod_of_the_same_node(lab: Lab, who: Addresses, protocol: str) -> None:
    flow = (who.second_pod, 40000, who.pod, 80)
    result = lab.run("from_pod", segment(who, flow, protocol=protocol))
    assert (result.code, dict(result.counted)) == (REDIRECT, {(Hook.FROM_POD, Verdict.TO_POD): 1})
    assert result.packet == bytes(segment(who, flow, protocol=protocol, **TO_POD))
    assert not lab.flows(), "what is not translated is not tracked"


def test_pod_to_pod_of_another_node(lab: Lab, who: Addresses, protocol: str) -> None:
    flow = (who.pod, 40000, who.remote_pod, 80)
    result = lab.run("from_pod", segment(who, flow, protocol=protocol))
    assert (result.code, dict(result.counted)) == (
        REDIRECT,
        {(Hook.FROM_POD, Verdict.TO_NETWORK): 1},
    )
    assert result.packet == bytes(segment(who, flow, protocol=protocol, **TO_NETWORK))


def test_from_the_network_to_a_pod(lab: Lab, who: Addresses, protocol: str) -> None:
    flow = (who.remote_pod, 40000, who.pod, 80)
    result = lab.run("from_uplink", segment(who, flow, protocol=protocol))
    assert (result.code, dict(result.counted)) == (
        REDIRECT,
        {(Hook.FROM_UPLINK, Verdict.TO_POD): 1},
    )
    assert result.packet == bytes(segment(who, flow, protocol=protocol, **TO_POD))


def echo(who: Addresses, **macs: Any) -> Packet:
    ttl = macs.pop("ttl", 64)
    ip = who.ip(who.second_pod, who.pod, ttl)
    message = ICMP(id=5) if who.version == 4 else ICMPv6EchoRequest(id=5)
    return (
        Ether(src=macs.get("smac", POD_MAC), dst=macs.get("dmac", VETH_MAC))
        / ip
        / message
        / b"ping"
    )


def test_ping_between_pods(lab: Lab, who: Addresses) -> None:
    result = lab.run("from_pod", echo(who))
    assert (result.code, result.packet) == (REDIRECT, bytes(echo(who, **TO_POD)))


@pytest.mark.parametrize("program", ["from_pod", "from_uplink", "to_uplink", "to_pod"])
def test_what_is_not_ip_passes(lab: Lab, program: str) -> None:
    packet = Ether(src=POD_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(psrc=V4.pod)
    result = lab.run(program, packet)
    assert (result.code, result.packet) == (PASS, bytes(packet))


def test_to_the_node_itself_passes(lab: Lab, who: Addresses, protocol: str) -> None:
    for program, source in (("from_pod", who.pod), ("from_uplink", who.client)):
        packet = segment(who, (source, 40000, who.node, 22), protocol=protocol)
        result = lab.run(program, packet)
        assert (result.code, result.packet) == (PASS, bytes(packet))


def test_the_last_hop_is_left_to_the_stack_which_answers(lab: Lab, who: Addresses) -> None:
    packet = segment(who, (who.pod, 40000, who.remote_pod, 80), ttl=1)
    result = lab.run("from_pod", packet)
    assert (result.code, result.packet) == (PASS, bytes(packet))


def test_neighbour_discovery_stays_on_the_link(lab: Lab) -> None:
    packet = (
        Ether(src=POD_MAC, dst="33:33:ff:00:00:01")
        / IPv6(src=format_address(link_local_address(POD_MAC)), dst="ff02::1:ff00:1")
        / ICMPv6ND_NS(tgt="fe80::1")
    )
    assert lab.run("from_pod", packet).code == PASS


def test_what_belongs_to_the_link_is_not_routed(lab: Lab, who: Addresses) -> None:
    """Whatever a default route says of it."""
    ends = {4: ("169.254.169.254", "224.0.0.9"), 6: ("fe80::99", "ff02::9")}[who.version]
    for address in ends:
        packet = segment(who, (who.pod, 40000, address, 80), protocol="UDP")
        result = lab.run("from_pod", packet)
        assert (result.code, result.packet) == (PASS, bytes(packet))


@pytest.mark.parametrize("program", ["from_pod", "from_uplink"])
@pytest.mark.parametrize("length", [1, 5, 19])
def test_a_truncated_header_is_dropped_and_counted(
    lab: Lab, who: Addresses, program: str, length: int
) -> None:
    """Cut within TCP; test run itself refuses packets that end before."""
    headers = 34 if who.version == 4 else 54
    packet = bytes(segment(who, (who.pod, 40000, who.second_pod, 80)))[: headers + length]
    result = lab.run(program, packet)
    assert result.code == SHOT
    hook = Hook.FROM_POD if program == "from_pod" else Hook.FROM_UPLINK
    assert dict(result.counted) == {(hook, Verdict.DROP_MALFORMED): 1}


def test_ipv4_options_are_skipped(lab: Lab) -> None:
    packet = segment(V4, (V4.second_pod, 40000, V4.pod, 80))
    packet[IP].options = [b"\x94\x04\x00\x00"]
    expected = packet.copy()
    expected[Ether].src, expected[Ether].dst, expected[IP].ttl = VETH_MAC, POD_MAC, 63
    result = lab.run("from_pod", packet)
    assert (result.code, result.packet) == (REDIRECT, bytes(expected))


def test_ipv6_extension_headers_are_skipped(lab: Lab) -> None:
    lab.service(V6.service, 80, [V6.second_pod])
    packet = segment(V6, (V6.pod, 40000, V6.service, 80))
    transport = packet[IPv6].payload
    packet[IPv6].remove_payload()
    packet = packet / IPv6ExtHdrHopByHop() / transport
    result = lab.run("from_pod", packet)
    assert (result.code, dict(result.counted)) == (REDIRECT, {(Hook.FROM_POD, Verdict.TO_POD): 1})
    assert IPv6(result.packet[14:]).dst == V6.second_pod
