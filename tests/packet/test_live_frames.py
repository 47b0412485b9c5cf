# SPDX-License-Identifier: Apache-2.0
"""Frames on real devices, with the programs attached: VLAN tags, and devices without Ethernet header (tun).

A test run always has an Ethernet header and never a tag. The devices are in namespaces of their own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import partial

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet

from kubypass.model.verdict import Hook, LocalAddressKind, ServiceFlag, Verdict
from tests.packet.devices import (
    DeviceLab,
    index,
    open_devices,
    packet_socket,
    receive,
    same,
    tagged,
)
from tests.packet.fragments import fragments
from tests.packet.lab import Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, V6, Addresses, segment
from tests.packet.uplink import run_inside

NODE_PORT = ServiceFlag.NODE_PORT


@pytest.fixture(scope="module")
def devices(loaded: Lab) -> Iterator[DeviceLab]:
    with open_devices(loaded) as netns:
        yield netns


@pytest.fixture
def device_lab(devices: DeviceLab) -> DeviceLab:
    """The devices with empty maps, but for what lives on the node."""
    lab = devices.lab
    lab.reset()
    veth = index(lab.path, "pod0")
    for who in (V4, V6):
        lab.local_address(who.pod, LocalAddressKind.POD, veth)
    return devices


def bare(packet: Packet) -> bytes:
    return bytes(packet.payload)


FOREIGN_TAGS = [
    pytest.param([Dot1Q(vlan=10)], id="VLAN 10"),
    pytest.param([Dot1AD(vlan=10), Dot1Q(vlan=20)], id="QinQ"),
    pytest.param([Dot1Q(vlan=10), Dot1Q(vlan=20)], id="two tags of 802.1Q"),
    pytest.param([Dot1Q(vlan=0), Dot1Q(vlan=20)], id="a priority, and VLAN 20"),
]


@pytest.mark.parametrize("tags", FOREIGN_TAGS)
def test_a_vlan_s_frame_is_not_served(
    device_lab: DeviceLab, who: Addresses, tags: list[Packet]
) -> None:
    """Neither on the uplink nor from a pod; no flow is opened, so nothing was sent on."""
    lab = device_lab.lab
    lab.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    for opened, client, hook, verdict in (
        (device_lab.far, who.other_node, Hook.FROM_UPLINK, Verdict.FOREIGN),
        (device_lab.pod, who.pod, Hook.FROM_POD, Verdict.DROP_FOREIGN_SOURCE),
    ):
        for flow in ((client, 40000, who.node, 30080), (client, 40000, who.remote_pod, 8080)):
            frame = tagged(segment(who, flow, **IN), *tags)
            found = device_lab.verdicts(hook, partial(opened.send, frame))
            assert found == [verdict]
    assert not lab.flows()


def test_a_tag_that_is_only_a_priority(device_lab: DeviceLab, who: Addresses) -> None:
    """VLAN 0 (802.1Q) is no VLAN: the frame is served, and goes on without the tag."""
    device_lab.lab.service(who.node, 30080, [who.remote_pod], flags=NODE_PORT)
    sent = segment(who, (who.other_node, 40000, who.node, 30080))
    device_lab.far.send(tagged(sent, Dot1Q(vlan=0, prio=5)))
    seen = segment(who, (who.node, 40000, who.remote_pod, 8080), **TO_NETWORK)
    _, has_tag = receive(device_lab.far, same(bytes(seen)))
    assert not has_tag


def test_a_node_port_without_ethernet_header(
    device_lab: DeviceLab, who: Addresses, protocol: str
) -> None:
    """Into a pod and to the network the packet gets a header; back to the client it has none."""
    lab = device_lab.lab
    for port, backend in ((30080, who.pod), (30081, who.remote_pod)):
        lab.service(who.node, port, [backend], flags=NODE_PORT, protocol=protocol)
    for port, backend, opened, where in (
        (30080, who.pod, device_lab.pod, TO_POD),
        (30081, who.remote_pod, device_lab.far, TO_NETWORK),
    ):
        for flags in "SA":
            sent = segment(who, (who.client, 40000, who.node, port), protocol=protocol, flags=flags)
            os.write(device_lab.tun, bare(sent))
            seen = (who.node, 40000, backend, 8080)
            expected = segment(who, seen, protocol=protocol, flags=flags, **where)
            receive(opened, same(bytes(expected)))
            reply = (backend, 8080, who.node, 40000)
            opened.send(bytes(segment(who, reply, protocol=protocol, flags="SA", **IN)))
            back = (who.node, port, who.client, 40000)
            expected = segment(who, back, protocol=protocol, flags="SA", ttl=63)
            receive(device_lab.tun, same(bare(expected)))


def test_a_pod_s_own_connections(device_lab: DeviceLab, who: Addresses, protocol: str) -> None:
    """From a pod to what is behind the device, and back, without translation."""
    device_lab.pod.send(
        bytes(segment(who, (who.pod, 40000, who.client, 80), protocol=protocol, **IN))
    )
    leaves = segment(who, (who.pod, 40000, who.client, 80), protocol=protocol, ttl=63)
    receive(device_lab.tun, same(bare(leaves)))
    answer = (who.client, 80, who.pod, 40000)
    os.write(device_lab.tun, bare(segment(who, answer, protocol=protocol, flags="SA")))
    seen = segment(who, answer, protocol=protocol, flags="SA", **TO_POD)
    receive(device_lab.pod, same(bytes(seen)))


def test_a_refusal_without_ethernet_header(device_lab: DeviceLab, who: Addresses) -> None:
    device_lab.lab.service(who.node, 30080, [], flags=NODE_PORT)
    sent = segment(who, (who.client, 40000, who.node, 30080))
    os.write(device_lab.tun, bare(sent))
    family = IP if who.version == 4 else IPv6
    message = ICMP(type=3, code=3) if who.version == 4 else ICMPv6DestUnreach(code=4)
    header = who.ip(who.node, who.client)
    if who.version == 4:
        header.id = 0
    expected = bytes(header / message / bare(sent))
    receive(device_lab.tun, same(bytes(family(expected))))


def test_fragments_that_overtake_the_first(device_lab: DeviceLab, who: Addresses) -> None:
    """They are queued as they came, without a header, and reinjected after the first one has got one."""
    lab = device_lab.lab
    for port, backend in ((30080, who.pod), (30081, who.remote_pod)):
        lab.service(who.node, port, [backend], flags=NODE_PORT, protocol="UDP")
    for number, (port, backend, opened, where) in enumerate(
        (
            (30080, who.pod, device_lab.pod, TO_POD),
            (30081, who.remote_pod, device_lab.far, TO_NETWORK),
        ),
        start=70,
    ):
        flow, seen = (who.client, 40000, who.node, port), (who.node, 40000, backend, 8080)
        options = {"protocol": "UDP", "number": number}
        first, second, third, *rest = fragments(who, flow, {}, **options)
        for frame in (third, second, first, *rest):
            os.write(device_lab.tun, frame[14:])
        wanted = set(fragments(who, seen, where, **options))
        while wanted:
            found, _ = receive(opened, wanted.__contains__)
            wanted.remove(found)


def test_what_is_the_node_s_goes_to_its_stack(device_lab: DeviceLab, who: Addresses) -> None:
    sent = bare(segment(who, (who.client, 40000, who.node, 22)))
    found = device_lab.verdicts(Hook.FROM_UPLINK, lambda: os.write(device_lab.tun, sent))
    assert found == [Verdict.PASS]
    receive(
        device_lab.tun, lambda frame: frame[:1] == sent[:1] and len(frame) < 80
    )  # the stack's RST


@pytest.mark.parametrize("wrong", [0, 0x50, 0xF0])
def test_what_is_not_ip_goes_to_the_stack(device_lab: DeviceLab, wrong: int) -> None:
    """Tun tells the protocol by the first byte; others do not."""
    packet = bytearray(bare(segment(V4, (V4.client, 40000, V4.node, 30080))))
    packet[0] = wrong | packet[0] & 15
    before = device_lab.lab.counts()
    try:
        os.write(device_lab.tun, bytes(packet))
    except OSError:
        return  # the device refuses it
    counted = device_lab.lab.counts()
    counted.subtract(before)
    assert not counted[Hook.FROM_UPLINK, Verdict.DROP_MALFORMED]


def test_a_macvlan_s_frames_are_its_own(
    device_lab: DeviceLab, who: Addresses, protocol: str
) -> None:
    """It has a MAC address of its own on the same uplink, such as that of a virtual machine."""
    lab, mac = device_lab.lab, "02:00:00:00:77:01"
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
            found = device_lab.verdicts(Hook.FROM_UPLINK, partial(device_lab.far.send, frame))
            assert found == [Verdict.FOREIGN]
            receive(opened, same(frame))
        assert not lab.flows()
    finally:
        run_inside(lab.path, "ip", "link", "delete", "mv0")
