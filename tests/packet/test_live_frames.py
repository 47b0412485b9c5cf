# SPDX-License-Identifier: Apache-2.0
"""Frames on real devices, with the programs attached: VLAN tags, and devices without Ethernet header (tun).

A test run always has an Ethernet header and never a tag. The devices are in namespaces of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.devices import Place, index, open_devices, packet_socket, receive
from tests.packet.fragments import fragments
from tests.packet.lab import Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, V6, Addresses, segment
from tests.packet.uplink import run_inside

NODE_PORT = ServiceFlag.NODE_PORT


@pytest.fixture(scope="module")
def devices(loaded: Lab) -> Iterator[Place]:
    with open_devices(loaded) as place:
        yield place


@pytest.fixture
def place_of(devices: Place) -> Place:
    """The devices with empty maps, but for what lives on the node."""
    lab = devices.lab
    lab.reset()
    veth = index(lab.path, "pod0")
    for who in (V4, V6):
        lab.local_address(who.pod, LocalAddressKind.POD, veth)
    return devices


def same(expected: bytes) -> Callable[[bytes], bool]:
    return lambda frame: frame == expected


def bare(packet: Packet) -> bytes:
    return bytes(packet.payload)


def tagged(packet: Packet, *tags: Packet) -> bytes:
    frame = Ether(src=packet.src, dst=packet.dst)
    for tag in tags:
        frame = frame / tag
    return bytes(frame / packet.payload)


FOREIGN_TAGS = [
    pytest.param([Dot1Q(vlan=10)], id="VLAN 10"),
    pytest.param([Dot1AD(vlan=10), Dot1Q(vlan=20)], id="QinQ"),
    pytest.param([Dot1Q(vlan=10), Dot1Q(vlan=20)], id="two tags of 802.1Q"),
    pytest.param([Dot1Q(vlan=0), Dot1Q(vlan=20)], id="a priority, and VLAN 20"),
]


@pytest.mark.parametrize("tags", FOREIGN_TAGS)
def test_a_vlan_s_frame_is_not_served(place_of: Place, who: Addresses, tags: list[Packet]) -> None:
    """Neither on the uplink nor from a pod; no flow is opened, so nothing was sent on."""
    lab = place_of.lab
    lab.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    for opened, client, hook, verdict in (
        (place_of.far, who.other_node, Hook.FROM_UPLINK, Verdict.FOREIGN),
        (place_of.pod, who.pod, Hook.FROM_POD, Verdict.DROP_FOREIGN_SOURCE),
    ):
        for flow in ((client, 40000, who.node, 30080), (client, 40000, who.remote_pod, 8080)):
            frame = tagged(segment(who, flow, **IN), *tags)
            found = place_of.verdicts(hook, partial(opened.send, frame))
            assert found == [verdict]
    assert not lab.flows()


def test_a_tag_that_is_only_a_priority(place_of: Place, who: Addresses) -> None:
    """VLAN 0 (802.1Q) is no VLAN: the frame is served, and goes on without the tag."""
    place_of.lab.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    sent = segment(who, (who.other_node, 40000, who.node, 30080))
    place_of.far.send(tagged(sent, Dot1Q(vlan=0, prio=5)))
    seen = segment(who, (who.node, 40000, who.remote_pod, 8080), **TO_NETWORK)
    _, has_tag = receive(place_of.far, same(bytes(seen)))
    assert not has_tag


def test_a_node_port_without_ethernet_header(
    place_of: Place, who: Addresses, protocol: str
) -> None:
    """Into a pod and to the network the packet gets a header; back to the client it has none."""
    lab = place_of.lab
    for port, backend in ((30080, who.pod), (30081, who.remote_pod)):
        lab.service(who.node, port, [backend], flags=NODE_PORT, protocol=protocol)
    for port, backend, opened, where in (
        (30080, who.pod, place_of.pod, TO_POD),
        (30081, who.remote_pod, place_of.far, TO_NETWORK),
    ):
        for flags in "SA":
            sent = segment(who, (who.client, 40000, who.node, port), protocol=protocol, flags=flags)
            os.write(place_of.tun, bare(sent))
            seen = (who.node, 40000, backend, 8080)
            expected = segment(who, seen, protocol=protocol, flags=flags, **where)
            receive(opened, same(bytes(expected)))
            reply = (backend, 8080, who.node, 40000)
            opened.send(bytes(segment(who, reply, protocol=protocol, flags="SA", **IN)))
            back = (who.node, port, who.client, 40000)
            expected = segment(who, back, protocol=protocol, flags="SA", ttl=63)
            receive(place_of.tun, same(bare(expected)))


def test_a_pod_s_own_connections(place_of: Place, who: Addresses, protocol: str) -> None:
    """From a pod to what is behind the device, and back, without translation."""
    place_of.pod.send(
        bytes(segment(who, (who.pod, 40000, who.client, 80), protocol=protocol, **IN))
    )
    leaves = segment(who, (who.pod, 40000, who.client, 80), protocol=protocol, ttl=63)
    receive(place_of.tun, same(bare(leaves)))
    answer = (who.client, 80, who.pod, 40000)
    os.write(place_of.tun, bare(segment(who, answer, protocol=protocol, flags="SA")))
    seen = segment(who, answer, protocol=protocol, flags="SA", **TO_POD)
    receive(place_of.pod, same(bytes(seen)))


def test_a_refusal_without_ethernet_header(place_of: Place, who: Addresses) -> None:
    place_of.lab.service(who.node, 30080, [], flags=NODE_PORT)
    sent = segment(who, (who.client, 40000, who.node, 30080))
    os.write(place_of.tun, bare(sent))
    family = IP if who.version == 4 else IPv6
    message = ICMP(type=3, code=3) if who.version == 4 else ICMPv6DestUnreach(code=4)
    header = who.ip(who.node, who.client)
    if who.version == 4:
        header.id = 0
    expected = bytes(header / message / bare(sent))
    receive(place_of.tun, same(bytes(family(expected))))


def test_fragments_that_overtake_the_first(place_of: Place, who: Addresses) -> None:
    """They are queued as they came, without a header, and reinjected after the first one has got one."""
    lab = place_of.lab
    for port, backend in ((30080, who.pod), (30081, who.remote_pod)):
        lab.service(who.node, port, [backend], flags=NODE_PORT, protocol="UDP")
    for number, (port, backend, opened, where) in enumerate(
        (
            (30080, who.pod, place_of.pod, TO_POD),
            (30081, who.remote_pod, place_of.far, TO_NETWORK),
        ),
        start=70,
    ):
        flow, seen = (who.client, 40000, who.node, port), (who.node, 40000, backend, 8080)
        options = {"protocol": "UDP", "number": number}
        first, second, third, *rest = fragments(who, flow, {}, **options)
        for frame in (third, second, first, *rest):
            os.write(place_of.tun, frame[14:])
        wanted = set(fragments(who, seen, where, **options))
        while wanted:
            found, _ = receive(opened, wanted.__contains__)
            wanted.remove(found)


def test_what_is_the_node_s_goes_to_its_stack(place_of: Place, who: Addresses) -> None:
    sent = bare(segment(who, (who.client, 40000, who.node, 22)))
    found = place_of.verdicts(Hook.FROM_UPLINK, lambda: os.write(place_of.tun, sent))
    assert found == [Verdict.PASS]
    receive(
        place_of.tun, lambda frame: frame[:1] == sent[:1] and len(frame) < 80
    )  # the stack's RST


@pytest.mark.parametrize("wrong", [0, 0x50, 0xF0])
def test_what_is_not_ip_goes_to_the_stack(place_of: Place, wrong: int) -> None:
    """Tun tells the protocol by the first byte; others do not."""
    packet = bytearray(bare(segment(V4, (V4.client, 40000, V4.node, 30080))))
    packet[0] = wrong | packet[0] & 15
    before = place_of.lab.counts()
    try:
        os.write(place_of.tun, bytes(packet))
    except OSError:
        return  # the device refuses it
    counted = place_of.lab.counts()
    counted.subtract(before)
    assert not counted[Hook.FROM_UPLINK, Verdict.DROP_MALFORMED]


def test_a_macvlan_s_frames_are_its_own(place_of: Place, who: Addresses, protocol: str) -> None:
    """It has a MAC address of its own on the same uplink, such as that of a virtual machine."""
    lab, mac = place_of.lab, "02:00:00:00:77:01"
    lab.service(who.node, 30080, [who.pod], flags=NODE_PORT, protocol=protocol)
    setup = f"link add mv0 link eth0 address {mac} type macvlan\nlink set mv0 addrgenmode none up"
    try:
        run_inside(lab.path, "ip", "-batch", "-", lines=setup)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no macvlan")
    try:
        flow = (who.other_node, 40000, who.node, 30080)
        frame = bytes(segment(who, flow, protocol=protocol, dmac=mac))
        with packet_socket(lab.path, "mv0") as opened:
            found = place_of.verdicts(Hook.FROM_UPLINK, partial(place_of.far.send, frame))
            assert found == [Verdict.FOREIGN]
            receive(opened, same(frame))
        assert not lab.flows()
    finally:
        run_inside(lab.path, "ip", "link", "delete", "mv0")
