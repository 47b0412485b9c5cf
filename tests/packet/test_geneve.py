# SPDX-License-Identifier: Apache-2.0
"""DSR in Geneve: the node that balances sends a client's packets in a tunnel, and the backend's node takes them out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from kubypass.model.verdict import DsrDispatch, DsrRefusal, Hook, Verdict
from tests.packet import dsr
from tests.packet.dsr import PORT, TARGET, peers, refused, with_option
from tests.packet.geneve import outer_port, tunnelled
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, Addresses, segment
from tests.packet.snat import tuple_of

CLIENT = 40000
GENEVE = DsrDispatch.GENEVE
balancer = partial(dsr.balancer, dispatch=GENEVE)
backend = partial(dsr.backend, dispatch=GENEVE)


def to_service(who: Addresses, **more: Any) -> Packet:
    return segment(who, (who.client, CLIENT, who.node, PORT), **more)


def to_remote(who: Addresses, **more: Any) -> Packet:
    return segment(who, (who.client, CLIENT, who.remote_pod, TARGET), **{**TO_NETWORK, **more})


def from_node(who: Addresses, inner: Packet, frontend: tuple[str, int], **more: Any) -> Packet:
    """A packet in the tunnel as this node gets it from the other one."""
    return tunnelled(who, inner, frontend, IN, **{"ends": (who.other_node, who.node), **more})


def to_pod(who: Addresses, **more: Any) -> Packet:
    return segment(who, (who.client, CLIENT, who.pod, TARGET), **{**IN, **more})


def test_every_packet_goes_in_the_tunnel(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    lab = balancer(netns, lab.flags, who, protocol)
    ports = set()
    for more in ({"payload": ""}, {"flags": "A", "seq": 101}, {"flags": "PA", "seq": 101}):
        result = lab.run("from_uplink", to_service(who, protocol=protocol, **more))
        port = outer_port(result.packet)
        inner = to_remote(who, protocol=protocol, **more)
        wanted = tunnelled(who, inner, (who.node, PORT), sport=port)
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
        ports.add(port)
    assert len(ports) == 1, "one connection takes one way through the network"
    assert min(ports) >= 49152


def test_connections_differ_in_the_outer_port(netns: str, who: Addresses) -> None:
    lab = balancer(netns, 0, who, "UDP")
    ports = {
        outer_port(lab.run("from_uplink", segment(who, flow, protocol="UDP")).packet)
        for flow in ((who.client, number, who.node, PORT) for number in range(40000, 40020))
    }
    assert len(ports) > 15


@pytest.mark.parametrize("frontend", ["node port", "load balancer"])
def test_the_backends_node_answers(
    netns: str, lab: Lab, who: Addresses, protocol: str, frontend: str
) -> None:
    lab = backend(netns, lab.flags, who, protocol)
    named = {"node port": (who.other_node, PORT), "load balancer": (who.service, 80)}[frontend]
    back = (who.pod, TARGET, who.client, CLIENT)
    for there, answer in (
        ({"payload": ""}, {"flags": "SA", "seq": 7, "ack": 101, "payload": ""}),
        ({"flags": "A", "seq": 101, "ack": 8}, {"flags": "PA", "seq": 8, "ack": 106}),
    ):
        sent = to_pod(who, protocol=protocol, **there)
        result = lab.run("from_uplink", from_node(who, sent, named))
        wanted = to_pod(who, protocol=protocol, **there, **TO_POD)
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_POD): 1}
        result = lab.run("from_pod", segment(who, back, protocol=protocol, **answer, **IN))
        seen = segment(who, (*named, who.client, CLIENT), protocol=protocol, **answer, **TO_NETWORK)
        assert result.packet == bytes(seen)


def test_packets_with_options_need_no_masquerade(
    netns: str, lab: Lab, who: Addresses, protocol: str
) -> None:
    lab = balancer(netns, lab.flags, who, protocol)
    value = b"\x94\x04\x00\x00" if who.version == 4 else b"\x1e\x14" + bytes(20)
    result = lab.run("from_uplink", with_option(to_service(who, protocol=protocol), value))
    inner = with_option(to_remote(who, protocol=protocol), value)
    wanted = tunnelled(who, inner, (who.node, PORT), sport=outer_port(result.packet))
    assert result.packet == bytes(wanted)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


@pytest.mark.parametrize("tos", [0xB8, 0x03, 0xB9])
def test_the_class_is_outside_too_and_no_congestion_mark(
    netns: str, who: Addresses, tos: int
) -> None:
    lab = balancer(netns, 0, who, "TCP")
    sent, inner = to_service(who), to_remote(who)
    for packet in (sent, inner):
        if who.version == 4:
            packet[IP].tos = tos
        else:
            packet[IPv6].tc = tos
    result = lab.run("from_uplink", sent)
    wanted = tunnelled(
        who, inner, (who.node, PORT), sport=outer_port(result.packet), tos=tos & 0xFC
    )
    assert result.packet == bytes(wanted)


def test_a_peer_without_it_is_masqueraded(netns: str, lab: Lab, who: Addresses) -> None:
    lab = balancer(netns, lab.flags, who, "TCP")
    peers(lab, DsrDispatch.NONE)
    before = refused(lab, DsrRefusal.REFUSED_PEER)
    result = lab.run("from_uplink", to_service(who))
    assert tuple_of(result.packet)[0] == who.node
    assert refused(lab, DsrRefusal.REFUSED_PEER) == before + 1


def test_a_connection_whose_dispatch_changes_goes_on(netns: str, lab: Lab, who: Addresses) -> None:
    """The probe has found out that the other one arrives: the other node knows the connection by both."""
    lab = balancer(netns, lab.flags, who, "TCP")
    lab.run("from_uplink", to_service(who, payload=""))
    peers(lab, DsrDispatch.OPTION)
    more: dict[str, Any] = {"flags": "A", "seq": 101}
    result = lab.run("from_uplink", to_service(who, **more))
    assert result.packet == bytes(to_remote(who, **more))
    peers(lab, GENEVE)
    result = lab.run("from_uplink", to_service(who, **more))
    wanted = tunnelled(
        who, to_remote(who, **more), (who.node, PORT), sport=outer_port(result.packet)
    )
    assert result.packet == bytes(wanted)
    lab = backend(netns, lab.flags, who, "TCP")
    lab.run("from_uplink", from_node(who, to_pod(who, payload=""), (who.service, 80)))
    back = (who.pod, TARGET, who.client, CLIENT)
    lab.run("from_pod", segment(who, back, flags="SA", seq=7, ack=101, payload=""))
    plain = lab.run("from_uplink", to_pod(who, **more, ack=8))
    assert plain.packet == bytes(to_pod(who, **more, ack=8, **TO_POD))
    result = lab.run("from_pod", segment(who, back, flags="PA", seq=8, ack=106))
    assert tuple_of(result.packet) == (who.service, 80, who.client, CLIENT)


def test_the_ethernet_header_inside_is_not_looked_at(netns: str, who: Addresses) -> None:
    """Cilium's has MAC addresses there."""
    lab = backend(netns, 0, who, "TCP")
    raw = bytearray(bytes(from_node(who, to_pod(who), (who.service, 80))))
    at = len(raw) - len(bytes(to_pod(who)))
    raw[at : at + 12] = b"\x02\x00\x00\x00\x00\x01" * 2
    result = lab.run("from_uplink", bytes(raw))
    assert result.packet == bytes(to_pod(who, **TO_POD))


def test_a_checksum_outside_is_allowed(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP")
    sent = from_node(who, to_pod(who), (who.service, 80))
    del sent["UDP"].chksum
    assert lab.run("from_uplink", sent).packet == bytes(to_pod(who, **TO_POD))


def test_tcp_flags_are_inside(netns: str, who: Addresses) -> None:
    lab = balancer(netns, 0, who, "TCP")
    sent = to_service(who)
    sent[TCP].options = [("MSS", 1460)]
    inner = to_remote(who)
    inner[TCP].options = [("MSS", 1460)]
    result = lab.run("from_uplink", sent)
    wanted = tunnelled(who, inner, (who.node, PORT), sport=outer_port(result.packet))
    assert result.packet == bytes(wanted)
