# SPDX-License-Identifier: Apache-2.0
"""What the stack looks at before it routes a packet, on the way of packets that never reach the stack."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, IPOption_NOP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from kubypass.model.verdict import Hook, ServiceFlag, Verdict
from tests.packet.lab import PASS, REDIRECT, SHOT, Lab
from tests.packet.packets import IN, TO_POD, V4, V6, Addresses, Flow, segment
from tests.packet.uplink import POD_DEVICES

NODE_PORT = ServiceFlag.NODE_PORT
MARTIANS = {
    4: ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.5", "239.1.1.1", "255.255.255.255"],  # noqa: S104
    6: ["::", "::1", "ff02::5"],
}
ROWS = [(who, address) for who in (V4, V6) for address in MARTIANS[who.version]]


@pytest.fixture(autouse=True)
def any_pod_sends_anything(lab: Lab) -> Iterator[None]:
    """What pods may send is another matter."""
    devices = [struct.pack("=I", device) for device in POD_DEVICES]
    for device in devices:
        lab.maps["foreign_sources"].update(device, struct.pack("=I", 1))
    yield
    for device in devices:
        lab.maps["foreign_sources"].delete(device)


def node_port(lab: Lab, who: Addresses, protocol: str = "TCP") -> Flow:
    lab.service(who.node, 30080, [who.pod], flags=NODE_PORT, protocol=protocol)
    return who.client, 40000, who.node, 30080


def check(lab: Lab, program: str, frame: bytes, code: int, verdict: Verdict) -> None:
    """The packet is counted once, and stays as it came; no flow is opened."""
    result = lab.run(program, frame)
    counted = {(Hook[program.upper()], verdict): 1}
    assert (result.code, dict(result.counted)) == (code, counted)
    assert result.packet == frame
    assert not lab.flows()


@pytest.mark.parametrize(("who", "sender"), ROWS)
@pytest.mark.parametrize("program", ["from_uplink", "from_pod"])
def test_an_address_that_no_host_has(
    lab: Lab, who: Addresses, sender: str, program: str, protocol: str
) -> None:
    node_port(lab, who, protocol)
    for flow in ((sender, 40000, who.node, 30080), (sender, 40000, who.pod, 8080)):
        frame = bytes(segment(who, flow, protocol=protocol))
        check(lab, program, frame, PASS, Verdict.FOREIGN)
    ping = Ether(bytes(segment(who, (sender, 1, who.pod, 1))))
    ping.payload.remove_payload()
    ping.payload.add_payload(b"\x08\0\xf7\xff\0\0\0\0")
    ping = Ether(bytes(ping))
    if who.version == 4:
        ping[IP].proto, ping[IP].len, ping[IP].chksum = 1, None, None
    else:
        ping[IPv6].nh, ping[IPv6].plen = 58, None
    check(lab, program, bytes(ping), PASS, Verdict.FOREIGN)


def test_class_e_is_an_address_like_others(lab: Lab) -> None:
    """Some clouds give 240.0.0.0/4 to pods, and Linux routes it."""
    node_port(lab, V4)
    result = lab.run("from_uplink", segment(V4, ("240.1.2.3", 40000, V4.node, 30080)))
    assert result.code == REDIRECT


def test_the_node_s_own_address_from_outside(lab: Lab, who: Addresses, protocol: str) -> None:
    node_port(lab, who, protocol)
    for flow in ((who.node, 40000, who.node, 30080), (who.node, 40000, who.pod, 8080)):
        frame = bytes(segment(who, flow, protocol=protocol))
        check(lab, "from_uplink", frame, PASS, Verdict.FOREIGN)


def test_a_pod_s_address_may_come_back(lab: Lab, who: Addresses) -> None:
    """A load balancer outside may return a pod's connection without another source address."""
    node_port(lab, who)
    result = lab.run("from_uplink", segment(who, (who.second_pod, 40000, who.node, 30080)))
    assert result.code == REDIRECT


def test_the_unspecified_address_has_no_node_port(lab: Lab, who: Addresses, protocol: str) -> None:
    """NodePorts are in the map under this address."""
    node_port(lab, who, protocol)
    nowhere = "0.0.0.0" if who.version == 4 else "::"  # noqa: S104
    for program, client in (("from_uplink", who.client), ("from_pod", who.pod)):
        frame = bytes(segment(who, (client, 40000, nowhere, 30080), protocol=protocol))
        check(lab, program, frame, PASS, Verdict.FOREIGN)


@pytest.mark.parametrize("mac", ["02:00:00:00:99:99", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05"])
def test_a_frame_that_is_not_for_this_host_alone(
    lab: Lab, who: Addresses, protocol: str, mac: str
) -> None:
    flow = node_port(lab, who, protocol)
    for sent in (flow, (who.client, 40000, who.pod, 8080)):
        frame = bytes(segment(who, sent, protocol=protocol, dmac=mac))
        check(lab, "from_uplink", frame, PASS, Verdict.FOREIGN)


@pytest.mark.parametrize("options", [0, 1, 10])
def test_a_wrong_header_checksum(lab: Lab, options: int) -> None:
    flow = node_port(lab, V4)
    packet = segment(V4, flow)
    packet[IP].options = [IPOption_NOP()] * 4 * options
    right = bytes(packet)
    for at in (15, 20, 27, 33, 14 + 20 + 4 * options - 1):
        wrong = bytearray(right)
        wrong[at] ^= 1
        check(lab, "from_uplink", bytes(wrong), SHOT, Verdict.DROP_MALFORMED)
    assert lab.run("from_uplink", right).code == REDIRECT


def test_a_frame_that_is_cut(lab: Lab, who: Addresses, protocol: str) -> None:
    """The IP header tells of more than has come."""
    frame = bytes(segment(who, node_port(lab, who, protocol), protocol=protocol))
    for cut in (1, 5):
        check(lab, "from_uplink", frame[:-cut], SHOT, Verdict.DROP_MALFORMED)
    assert lab.run("from_uplink", frame).code == REDIRECT


def test_padding_stays_behind_the_packet(lab: Lab, who: Addresses) -> None:
    """The receiver trims it, as every host does: frames have at least 60 bytes."""
    sent = segment(who, (who.client, 40000, who.pod, 8080), payload="")
    seen = segment(who, (who.client, 40000, who.pod, 8080), payload="", **TO_POD)
    result = lab.run("from_uplink", bytes(sent) + bytes(6))
    assert (result.code, result.packet) == (REDIRECT, bytes(seen) + bytes(6))


@pytest.mark.parametrize("program", ["from_uplink", "from_pod"])
def test_ipv4_addresses_in_an_ipv6_header(lab: Lab, protocol: str, program: str) -> None:
    """In our maps they would be those of IPv4's services, pods and flows."""
    flow = node_port(lab, V4, protocol)
    assert lab.run(program, segment(V4, flow, protocol=protocol)).code == REDIRECT
    known = lab.flows()
    for source, destination in (("mapped", "mapped"), ("mapped", "own"), ("own", "mapped")):
        ends = [
            f"::ffff:{address}" if kind == "mapped" else other
            for kind, address, other in (
                (source, V4.client, V6.client),
                (destination, V4.node, V6.node),
            )
        ]
        frame = bytes(segment(V6, (ends[0], 40000, ends[1], 30080), protocol=protocol))
        result = lab.run(program, frame)
        hook = Hook[program.upper()]
        assert dict(result.counted) == {(hook, Verdict.DROP_MALFORMED): 1}
        assert (result.code, result.packet) == (SHOT, frame)
    assert lab.flows().keys() == known.keys()


def test_a_length_of_zero(lab: Lab, who: Addresses) -> None:
    frame = bytearray(bytes(segment(who, (who.pod, 40000, who.second_pod, 80), **IN)))
    if who.version == 4:
        ip = IP(bytes(frame[14:]))
        ip.len, ip.chksum = 0, None
        frame[14:] = bytes(ip)
    else:
        struct.pack_into(">H", frame, 18, 0)
    check(lab, "from_pod", bytes(frame), SHOT, Verdict.DROP_MALFORMED)
