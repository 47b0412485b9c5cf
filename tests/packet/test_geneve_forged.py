# SPDX-License-Identifier: Apache-2.0
"""Geneve with the option of DSR that no node has sent, and others' Geneve, which is none of ours."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from scapy.packet import Packet

from kubypass.model.verdict import DsrDispatch, Hook, ServiceFlag, Verdict
from tests.packet import dsr
from tests.packet.dsr import FORGED, PORT, TARGET
from tests.packet.geneve import cut, geneve, nowhere, tunnelled
from tests.packet.lab import PASS, SHOT, Lab
from tests.packet.packets import IN, TO_POD, V4, V6, Addresses, segment

CLIENT = 40000
backend = partial(dsr.backend, dispatch=DsrDispatch.GENEVE)


def inner(who: Addresses, client: str = "", **more: object) -> Packet:
    """A client's packet to the pod."""
    return segment(who, (client or who.client, CLIENT, who.pod, TARGET), **more)


def in_tunnel(who: Addresses, packet: Packet, frontend: tuple[str, int], **more: object) -> Packet:
    ends = more.pop("ends", (who.other_node, who.node))
    return tunnelled(who, packet, frontend, IN, ends=ends, **more)


def dropped(lab: Lab, packet: Packet, verdict: Verdict) -> None:
    before = lab.flows()
    result = lab.run("from_uplink", packet)
    assert (result.code, lab.flows()) == (SHOT, before)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, verdict): 1}


@pytest.mark.parametrize("sender", ["client", "remote_pod", "service"])
def test_only_nodes_are_believed(
    netns: str, lab: Lab, who: Addresses, protocol: str, sender: str
) -> None:
    lab = backend(netns, lab.flags, who, protocol)
    ends = (getattr(who, sender), who.node)
    packet = in_tunnel(who, inner(who, protocol=protocol), (who.service, 80), ends=ends)
    dropped(lab, packet, Verdict.DROP_DSR_TUNNEL)


@pytest.mark.parametrize("how", sorted(FORGED))
def test_a_node_gets_nothing_that_the_frontend_would_not_give(
    netns: str, lab: Lab, who: Addresses, protocol: str, how: str
) -> None:
    """A packet with a node's source address may come from anywhere."""
    lab = backend(netns, lab.flags, who, protocol)
    flags = int(ServiceFlag.LOAD_BALANCER)
    lab.service(who.service, 82, [who.pod], protocol=protocol, flags=flags)
    flags |= ServiceFlag.DSR | ServiceFlag.SOURCE_RANGES
    lab.service(who.service, 83, [who.pod], protocol=protocol, flags=flags)
    client, address, port = FORGED[how](who)
    packet = in_tunnel(who, inner(who, client, protocol=protocol), (address, port))
    dropped(lab, packet, Verdict.DROP_DSR)


def test_the_node_is_no_relay(netns: str, lab: Lab, who: Addresses, protocol: str) -> None:
    """What goes to an address of another host, or without frontend to a port, is dropped."""
    lab = backend(netns, lab.flags, who, protocol)
    away = segment(who, (who.client, CLIENT, who.remote_pod, TARGET), protocol=protocol)
    dropped(lab, in_tunnel(who, away, (who.service, 80)), Verdict.DROP_NO_ROUTE)
    packet = in_tunnel(who, inner(who, protocol=protocol), nowhere(who.version))
    dropped(lab, packet, Verdict.DROP_DSR_TUNNEL)
    for source in (who.other_node, who.remote_pod):
        part = cut(who, (source, CLIENT, who.pod, TARGET), **IN)[1]
        dropped(lab, in_tunnel(who, part, nowhere(who.version)), Verdict.DROP_DSR_TUNNEL)
    part = cut(who, (who.client, CLIENT, who.remote_pod, TARGET), **IN)[1]
    dropped(lab, in_tunnel(who, part, nowhere(who.version)), Verdict.DROP_NO_ROUTE)
    part = cut(who, (who.client, CLIENT, who.pod, TARGET), **IN)[1]
    dropped(lab, in_tunnel(who, part, (who.service, 80)), Verdict.DROP_DSR_TUNNEL)


def test_a_packet_of_the_other_family(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP")
    other = V6 if who.version == 4 else V4
    header = geneve((who.service, 80), who.version)
    raw = bytearray(bytes(in_tunnel(who, inner(other), (who.service, 80), header=header)))
    at = len(raw) - len(bytes(inner(other).payload)) - 2
    raw[at : at + 2] = b"\x86\xdd" if other.version == 6 else b"\x08\x00"
    result = lab.run("from_uplink", bytes(raw))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_DSR_TUNNEL): 1}


@pytest.mark.parametrize("bytes_left", [0, 10, 19, 30])
def test_what_is_inside_is_cut_off(netns: str, who: Addresses, bytes_left: int) -> None:
    lab = backend(netns, 0, who, "TCP")
    whole = in_tunnel(who, inner(who), (who.service, 80))
    left = len(bytes(whole)) - len(bytes(inner(who).payload)) + bytes_left
    short = whole.copy()
    short["UDP"].remove_payload()
    short = short / bytes(whole["UDP"].payload)[: left - len(bytes(short))]
    result = lab.run("from_uplink", short)
    assert result.code == SHOT
    assert {verdict for _, verdict in result.counted} <= {
        Verdict.DROP_MALFORMED,
        Verdict.DROP_DSR_TUNNEL,
    }


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "no option": lambda _: bytes([0, 0]) + b"\x65\x58" + b"\x00\x00\x07\x00",
    "another class": lambda ours: ours.replace(b"\x01\x4b", b"\x01\x00", 1),
    "another type": lambda ours: ours.replace(b"\x4b\x81", b"\x4b\x82", 1),
    "a second option": lambda ours: b"\x08" + ours[1:] + b"\x01\x02\x03\x00" * 5,
    "without Ethernet": lambda ours: ours.replace(b"\x65\x58", b"\x08\x00", 1),
    "another version": lambda ours: bytes([0x40 | ours[0]]) + ours[1:],
}


@pytest.mark.parametrize("how", sorted(OTHERS))
@pytest.mark.parametrize("sender", ["client", "other_node"])
def test_others_tunnels_are_untouched(
    netns: str, lab: Lab, who: Addresses, how: str, sender: str
) -> None:
    lab = backend(netns, lab.flags, who, "TCP")
    ends = (getattr(who, sender), who.node)
    header = OTHERS[how](geneve((who.service, 80), who.version))
    sent = in_tunnel(who, inner(who), (who.service, 80), header=header, ends=ends)
    result = lab.run("from_uplink", sent)
    assert (result.code, result.packet) == (PASS, bytes(sent))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.PASS): 1}


def test_another_port_and_another_host_are_untouched(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP")
    sent = in_tunnel(who, inner(who), (who.service, 80), dport=6082)
    assert lab.run("from_uplink", sent).packet == bytes(sent)
    sent = in_tunnel(who, inner(who), (who.service, 80), ends=(who.other_node, who.client))
    assert lab.run("from_uplink", sent).packet == bytes(sent)
    ends = (who.other_node, who.pod)
    sent = in_tunnel(who, inner(who), (who.service, 80), ends=ends)
    wanted = in_tunnel(who, inner(who), (who.service, 80), ends=ends)
    wanted.src, wanted.dst = TO_POD["smac"], TO_POD["dmac"]
    wanted.payload.__setattr__("ttl" if who.version == 4 else "hlim", 63)
    assert lab.run("from_uplink", sent).packet == bytes(wanted), "a pod has tunnels of its own"


def test_off_means_untouched(netns: str, lab: Lab, who: Addresses) -> None:
    """With the option as the dispatch, tunnels do not end here."""
    lab = dsr.backend(netns, lab.flags, who, "TCP")
    sent = in_tunnel(who, inner(who), (who.service, 80))
    result = lab.run("from_uplink", sent)
    assert (result.code, result.packet) == (PASS, bytes(sent))


def test_a_question_of_an_agent_passes(netns: str, lab: Lab, who: Addresses) -> None:
    """It names no frontend, and goes from node to node inside as outside."""
    lab = backend(netns, lab.flags, who, "UDP")
    asked = segment(who, (who.other_node, 4000, who.node, 9969), protocol="UDP", **IN)
    result = lab.run("from_uplink", in_tunnel(who, asked, nowhere(who.version)))
    assert (result.code, result.packet) == (PASS, bytes(asked))
    for source, protocol in ((who.client, "UDP"), (who.other_node, "TCP")):
        asked = segment(who, (source, 4000, who.node, 9969), protocol=protocol, **IN)
        packet = in_tunnel(who, asked, nowhere(who.version))
        dropped(lab, packet, Verdict.DROP_DSR_TUNNEL)


def test_the_question_of_the_probe(netns: str, lab: Lab, who: Addresses) -> None:
    """The agent's own bytes, which programs and sockets take."""
    from kubypass.model.address import parse_address
    from kubypass.node.dsr_tunnel import in_geneve

    lab = backend(netns, lab.flags, who, "UDP")
    ends = tuple(map(parse_address, (who.other_node, who.node)))
    data = in_geneve(b"question", (ends[0], 4000), (ends[1], 9969))
    sent = in_tunnel(who, inner(who), nowhere(who.version), header=b"")
    sent["UDP"].remove_payload()
    result = lab.run("from_uplink", sent / data)
    asked = segment(who, (who.other_node, 4000, who.node, 9969), protocol="UDP", payload="question")
    if who.version == 4:
        asked["IP"].id, asked["IP"].flags = 0, "DF"
    assert (result.code, result.packet) == (PASS, bytes(asked))


def test_a_clash_is_refused_as_with_the_option(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "TCP")
    lab.run("from_uplink", in_tunnel(who, inner(who), (who.service, 80)))
    result = lab.run("from_uplink", in_tunnel(who, inner(who), (who.other_node, PORT)))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_DSR_CLASH): 1}
