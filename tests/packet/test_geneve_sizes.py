# SPDX-License-Identifier: Apache-2.0
"""DSR in Geneve: what no longer fits, fragments, packets that are cut later, and ICMP errors."""

from __future__ import annotations

from functools import partial

import pytest
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.model.verdict import DsrDispatch, DsrRefusal, Hook, Verdict
from tests.packet import dsr
from tests.packet.dsr import PORT, TARGET, peers, refused
from tests.packet.geneve import MTU, OVERHEAD, cut, nowhere, outer_port, tunnelled
from tests.packet.icmp_errors import ERRORS, error, quoted, router
from tests.packet.icmp_replies import answer, too_big
from tests.packet.icmp_replies import told as told_by_icmp
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import IN, TO_NETWORK, TO_POD, V4, Addresses, Flow, segment
from tests.packet.snat import tuple_of

CLIENT = 40000
HEADERS = {4: 20, 6: 40}
GENEVE = DsrDispatch.GENEVE
balancer = partial(dsr.balancer, dispatch=GENEVE)
backend = partial(dsr.backend, dispatch=GENEVE)


def full(who: Addresses, flow: Flow, protocol: str, length: int, **more: object) -> Packet:
    """A packet of this length, which no router may cut."""
    transport = 8 if protocol == "UDP" else 20
    payload = "x" * (length - HEADERS[who.version] - transport)
    packet = segment(who, flow, protocol=protocol, payload=payload, flags="A", seq=101, **more)
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


@pytest.mark.parametrize("known", [1500, 0], ids=["of the path", "of the device"])
@pytest.mark.parametrize("opened", [False, True], ids=["new", "open"])
def test_what_no_longer_fits_is_told(
    netns: str, who: Addresses, protocol: str, known: int, opened: bool
) -> None:
    """In each packet of a connection, not only in its first: the error quotes what the client has sent."""
    lab = balancer(netns, 0, who, protocol)
    peers(lab, GENEVE, mtu=known)
    here, there = (who.client, CLIENT, who.node, PORT), (who.client, CLIENT, who.remote_pod, TARGET)
    if opened:
        lab.run("from_uplink", segment(who, here, protocol=protocol, payload=""))
    fits = MTU - OVERHEAD[who.version]
    sent = full(who, here, protocol, fits + 1)
    error = answer(who, who.node, sent, too_big(who, fits))
    told_by_icmp(lab.run("from_uplink", sent), Verdict.ANSWER_TOO_BIG, error)
    result = lab.run("from_uplink", full(who, here, protocol, fits))
    inner = full(who, there, protocol, fits, **TO_NETWORK)
    wanted = tunnelled(who, inner, (who.node, PORT), sport=outer_port(result.packet))
    assert (result.code, result.packet) == (REDIRECT, bytes(wanted))
    assert len(result.packet) == 14 + MTU


def test_a_path_that_is_narrower_than_the_device(netns: str, who: Addresses) -> None:
    lab = balancer(netns, 0, who, "TCP")
    peers(lab, GENEVE, mtu=1400)
    here, fits = (who.client, CLIENT, who.node, PORT), 1400 - OVERHEAD[who.version]
    sent = full(who, here, "TCP", fits + 1)
    error = answer(who, who.node, sent, too_big(who, fits))
    told_by_icmp(lab.run("from_uplink", sent), Verdict.ANSWER_TOO_BIG, error)


def test_segments_are_measured_not_what_they_are_cut_from(netns: str, who: Addresses) -> None:
    """Test run makes packets that no kernel grows, so what is too big is seen here, and tests/box has the others."""
    lab = balancer(netns, 0, who, "TCP")
    peers(lab, GENEVE, mtu=MTU)
    here = (who.client, CLIENT, who.node, PORT)
    sent = full(who, here, "TCP", 1480)
    mss = MTU - OVERHEAD[who.version] - HEADERS[who.version] - 20
    result = lab.run("from_uplink", sent, segment_bytes=mss + 1)
    error = answer(who, who.node, sent, too_big(who, MTU - OVERHEAD[who.version]))
    told_by_icmp(result, Verdict.ANSWER_TOO_BIG, error)
    result = lab.run("from_uplink", sent, segment_bytes=mss)
    assert Verdict.ANSWER_TOO_BIG not in {verdict for _, verdict in result.counted}


def test_a_datagram_that_may_be_cut(netns: str, lab: Lab) -> None:
    """It opens a masqueraded connection; in one that is known, it goes without the tunnel."""
    who = V4
    here, there = (who.client, CLIENT, who.node, PORT), (who.client, CLIENT, who.remote_pod, TARGET)
    before = refused(balancer(netns, 0, who, "UDP"), DsrRefusal.REFUSED_SIZE)
    lab = balancer(netns, lab.flags, who, "UDP")
    peers(lab, GENEVE, mtu=MTU)
    sent, plain = full(who, here, "UDP", MTU), full(who, there, "UDP", MTU, **TO_NETWORK)
    sent[IP].flags = plain[IP].flags = 0
    assert tuple_of(lab.run("from_uplink", sent).packet)[0] == who.node
    assert refused(lab, DsrRefusal.REFUSED_SIZE) == before + 1
    lab = balancer(netns, lab.flags, who, "UDP")
    peers(lab, GENEVE, mtu=MTU)
    lab.run("from_uplink", segment(who, here, protocol="UDP"))
    result = lab.run("from_uplink", sent)
    assert (result.code, result.packet) == (REDIRECT, bytes(plain))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


def test_joined_datagrams(netns: str, who: Addresses) -> None:
    """A kernel would drop them behind the tunnel: the first opens a masqueraded connection, others go without."""
    lab = balancer(netns, 0, who, "UDP")
    here, there = (who.client, CLIENT, who.node, PORT), (who.client, CLIENT, who.remote_pod, TARGET)
    before = refused(lab, DsrRefusal.REFUSED_SEGMENTS)
    more = {"protocol": "UDP", "payload": "x" * 1000}
    result = lab.run("from_uplink", segment(who, here, **more), segment_bytes=500)
    assert tuple_of(result.packet)[0] == who.node
    assert refused(lab, DsrRefusal.REFUSED_SEGMENTS) == before + 1
    lab = balancer(netns, 0, who, "UDP")
    lab.run("from_uplink", segment(who, here, protocol="UDP"))
    result = lab.run("from_uplink", segment(who, here, **more), segment_bytes=500)
    assert result.packet == bytes(segment(who, there, **more, **TO_NETWORK))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


def test_fragments_go_in_the_tunnel(netns: str, lab: Lab, who: Addresses) -> None:
    """Only the first one has ports, and names the frontend."""
    lab = balancer(netns, lab.flags, who, "UDP")
    peers(lab, GENEVE, mtu=MTU)
    sent = cut(who, (who.client, CLIENT, who.node, PORT), **IN)
    inner = cut(who, (who.client, CLIENT, who.remote_pod, TARGET), **TO_NETWORK)
    for number, (packet, inside) in enumerate(zip(sent, inner, strict=True)):
        result = lab.run("from_uplink", packet)
        named = (who.node, PORT) if not number else nowhere(who.version)
        wanted = tunnelled(who, inside, named, sport=outer_port(result.packet))
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted)), number
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}


def test_fragments_come_out_of_it(netns: str, lab: Lab, who: Addresses) -> None:
    lab = backend(netns, lab.flags, who, "UDP")
    flow = (who.client, CLIENT, who.pod, TARGET)
    for number, (inside, wanted) in enumerate(
        zip(cut(who, flow, **IN), cut(who, flow, **TO_POD), strict=True)
    ):
        named = (who.service, 80) if not number else nowhere(who.version)
        ends = (who.other_node, who.node)
        result = lab.run("from_uplink", tunnelled(who, inside, named, IN, ends=ends))
        assert (result.code, result.packet) == (REDIRECT, bytes(wanted)), number


def test_fragments_that_fit_without_the_tunnel_only(netns: str, lab: Lab, who: Addresses) -> None:
    """Nobody sends a datagram again: a new connection is masqueraded, and those of a known one go without."""
    before = refused(balancer(netns, 0, who, "UDP"), DsrRefusal.REFUSED_SIZE)
    lab = balancer(netns, lab.flags, who, "UDP")
    peers(lab, GENEVE, mtu=MTU)
    here, there = (who.client, CLIENT, who.node, PORT), (who.client, CLIENT, who.remote_pod, TARGET)
    for packet in cut(who, here, 1440, **IN):
        assert Ether(lab.run("from_uplink", packet).packet).payload.src == who.node
    assert refused(lab, DsrRefusal.REFUSED_SIZE) == before + 1
    lab = balancer(netns, lab.flags, who, "UDP")
    peers(lab, GENEVE, mtu=MTU)
    lab.run("from_uplink", segment(who, here, protocol="UDP", payload=""))
    parts = zip(cut(who, here, 1440, **IN), cut(who, there, 1440, **TO_NETWORK), strict=True)
    for packet, plain in list(parts)[:2]:
        result = lab.run("from_uplink", packet)
        assert (result.code, result.packet) == (REDIRECT, bytes(plain))


@pytest.mark.parametrize("kind", range(4))
def test_errors_about_answers_go_in_the_tunnel(
    netns: str, lab: Lab, who: Addresses, kind: int
) -> None:
    """A network that wants the tunnel lets nothing else of clients through."""
    message = ERRORS[who.version][kind]
    lab = balancer(netns, lab.flags, who, "UDP")
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), protocol="UDP"))
    quote = quoted(who, (who.node, PORT, who.client, CLIENT), protocol="UDP")
    sent = error(who, router(who), who.node, message, quote, IN)
    result = lab.run("from_uplink", sent)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
    inside = Ether(result.packet[:14] + result.packet[14 + OVERHEAD[who.version] :])
    source = router(who) if type(message).__name__ == "ICMPv6TimeExceeded" or kind == 2 else None
    assert inside.payload.dst == who.remote_pod
    lab = backend(netns, lab.flags, who, "UDP")
    inner = segment(who, (who.client, CLIENT, who.pod, TARGET), protocol="UDP")
    ends = (who.other_node, who.node)
    lab.run("from_uplink", tunnelled(who, inner, (who.service, 80), IN, ends=ends))
    quote = quoted(who, (who.pod, TARGET, who.client, CLIENT), protocol="UDP")
    frame = Ether(error(who, source or who.client, who.pod, message, quote, IN))
    result = lab.run("from_uplink", tunnelled(who, frame, nowhere(who.version), IN, ends=ends))
    wanted = error(who, source or who.client, who.pod, message, quote, TO_POD)
    assert (result.code, result.packet) == (REDIRECT, wanted)


def test_hops_that_are_used_up(netns: str, who: Addresses, protocol: str) -> None:
    lab = balancer(netns, 0, who, protocol)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol, ttl=1)
    result = lab.run("from_uplink", sent)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.ANSWER_TTL_EXPIRED): 1}
    assert result.packet.endswith(bytes(sent.payload)), "as the client has sent it"
