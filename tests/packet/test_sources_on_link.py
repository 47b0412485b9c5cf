# SPDX-License-Identifier: Apache-2.0
"""What a pod sends to its link alone, before it has an address: it passes, and fills no table of the node."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Solicit
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from kubypass.datapath import layout
from kubypass.model.address import format_address, link_local_address
from kubypass.model.verdict import Hook, Verdict
from tests.packet.lab import PASS, Lab
from tests.packet.packets import POD_MAC, V4, V6
from tests.packet.sources import MINE, OTHERS, dropped

OWN = format_address(link_local_address(POD_MAC))
OTHER = "fe80::14"
SOLICITED = "ff02::1:ff00:14"
ROUTERS, REPORTS, SERVERS6 = "ff02::2", "ff02::16", "ff02::1:2"
NOBODY, EVERYBODY = "0.0.0.0", "255.255.255.255"  # noqa: S104
GATEWAY = "169.254.1.1"


def multicast(packet: Packet, group: str = "33:33:00:00:00:01") -> Packet:
    return Ether(src=POD_MAC, dst=group) / packet


def solicitation(source: str) -> Packet:
    return IPv6(src=source, dst=SOLICITED) / ICMPv6ND_NS(tgt="fe80::1")


BEFORE_AN_ADDRESS = {
    "duplicate address detection": IPv6(src="::", dst=SOLICITED) / ICMPv6ND_NS(tgt=V6.pod),
    "its own link-local address": solicitation(OWN) / ICMPv6NDOptSrcLLAddr(lladdr=POD_MAC),
    "an advertisement": IPv6(src=OWN, dst="fe80::1") / ICMPv6ND_NA(tgt=OWN),
    "who is a router": IPv6(src=OWN, dst=ROUTERS) / ICMPv6ND_RS(),
    "groups": IPv6(src="::", dst=REPORTS) / IPv6ExtHdrHopByHop() / ICMPv6MLReport2(),
    "DHCP": IP(src=NOBODY, dst=EVERYBODY)
    / UDP(sport=68, dport=67)
    / BOOTP()
    / DHCP(options=["end"]),
    "DHCPv6": IPv6(src=OWN, dst=SERVERS6) / UDP(sport=546, dport=547) / DHCP6_Solicit(),
    "address resolution": ARP(psrc=V4.pod, pdst=GATEWAY),
    "an answer to it": ARP(op="is-at", psrc=V4.pod, pdst=V4.node),
    "is the address free (RFC 5227)": ARP(psrc=NOBODY, pdst=V4.pod),
}


@pytest.mark.parametrize("name", BEFORE_AN_ADDRESS)
def test_what_a_pod_needs_before_it_has_an_address_stays_on_its_link(lab: Lab, name: str) -> None:
    packet = multicast(BEFORE_AN_ADDRESS[name])
    result = lab.run("from_pod", packet, device=MINE)
    assert (result.code, result.packet) == (PASS, bytes(packet))
    assert dict(result.counted) == {(Hook.FROM_POD, Verdict.PASS): 1}


NOT_EVEN_THEN = {
    "a router": IPv6(src=OWN, dst="ff02::1") / ICMPv6ND_RA(),
    "link-local, far away": IPv6(src=OWN, dst=V6.remote_pod) / ICMPv6ND_NS(tgt=V6.node),
    "link-local, to another pod": IPv6(src=OWN, dst=V6.second_pod) / UDP(sport=1, dport=2),
    "link-local, to the node": IPv6(src=OWN, dst="fe80::1") / TCP(dport=22),
    "nobody, to everybody": IPv6(src="::", dst="ff02::1") / ICMPv6EchoRequest(),
    "nobody, by UDP": IPv6(src="::", dst="ff02::fb") / UDP(sport=5353, dport=5353),
    "not DHCP": IP(src=NOBODY, dst=EVERYBODY) / UDP(sport=68, dport=53),
    "DHCP to another": IP(src=NOBODY, dst=V4.remote_pod) / UDP(sport=68, dport=67),
    "DHCP of another": IP(src=V4.second_pod, dst=EVERYBODY) / UDP(sport=68, dport=67),
    "DHCPv6 of another": IPv6(src=OTHER, dst=SERVERS6) / UDP(sport=546, dport=547),
    "DHCPv6 of nobody": IPv6(src="::", dst=SERVERS6) / UDP(sport=546, dport=547),
    "not DHCPv6": IPv6(src=OWN, dst=SERVERS6) / UDP(sport=546, dport=53),
    "who asks from another's link-local address": solicitation(OTHER),
    "another's link-local address": IPv6(src=OTHER, dst="fe80::1") / ICMPv6ND_NA(tgt=OTHER),
    "a router is asked by another": IPv6(src=OTHER, dst=ROUTERS) / ICMPv6ND_RS(),
    "ARP of another pod": ARP(psrc=V4.second_pod, pdst=GATEWAY),
    "ARP of the node": ARP(op="is-at", psrc=V4.node, pdst=GATEWAY),
    "ARP of nobody here": ARP(psrc=V4.client, pdst=V4.node),
}


@pytest.mark.parametrize("name", NOT_EVEN_THEN)
def test_and_nothing_else(lab: Lab, name: str) -> None:
    dropped(lab.run("from_pod", multicast(NOT_EVEN_THEN[name]), device=MINE))


def test_an_arp_frame_that_ends_too_early(lab: Lab) -> None:
    whole = bytes(multicast(ARP(psrc=V4.pod, pdst=GATEWAY)))
    dropped(lab.run("from_pod", Ether(whole[:30]), device=MINE))


def test_a_slot_of_another_device_tells_nothing_of_this_pod(lab: Lab) -> None:
    """Its addresses are found elsewhere; its link-local one is not, and it can do without."""
    lab.maps["pod_devices"].update(struct.pack("=I", OTHERS), bytes(layout.POD_DEVICE_SIZE))
    own = ARP(psrc=V4.second_pod, pdst=GATEWAY)
    assert lab.run("from_pod", multicast(own), device=OTHERS).code == PASS
    dropped(lab.run("from_pod", multicast(solicitation(OWN)), device=OTHERS))
