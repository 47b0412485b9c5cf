# SPDX-License-Identifier: Apache-2.0
"""DSR makes packets longer: what no longer fits, and errors about packets of connections in DSR mode."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, IPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from kubypass.model.verdict import DsrRefusal, Hook, Verdict
from tests.packet.dsr import OPTION_BYTES, PORT, TARGET, backend, balancer, peers, refused, told
from tests.packet.icmp_replies import answer
from tests.packet.icmp_replies import told as told_by_icmp
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import IN, TO_NETWORK, V4, Addresses, segment
from tests.packet.snat import tuple_of

CLIENT, MTU = 40000, 1500
HEADERS = {4: 20, 6: 40}


def full(who: Addresses, protocol: str, length: int = MTU, **options: Any) -> Packet:
    """A client's packet of this length, which no router may cut."""
    transport = 8 if protocol == "UDP" else 20
    payload = "x" * (length - HEADERS[who.version] - transport)
    flow = options.pop("flow", (who.client, CLIENT, who.node, PORT))
    packet = segment(who, flow, protocol=protocol, payload=payload, **options)
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


def too_big(who: Addresses, mtu: int) -> Packet:
    return ICMP(type=3, code=4, nexthopmtu=mtu) if who.version == 4 else ICMPv6PacketTooBig(mtu=mtu)


@pytest.mark.parametrize("known", [1500, 0], ids=["of the path", "of the device"])
def test_what_no_longer_fits_is_told(netns: str, who: Addresses, protocol: str, known: int) -> None:
    """The error quotes what the client has sent; a packet that is as much shorter goes on."""
    lab = balancer(netns, 0, who, protocol)
    peers(lab, mtu=known)
    sent, fits = full(who, protocol, flags="A"), MTU - OPTION_BYTES[who.version]
    error = answer(who, who.node, sent, too_big(who, fits))
    told_by_icmp(lab.run("from_uplink", sent), Verdict.ANSWER_TOO_BIG, error)
    lab.reset()
    lab = balancer(netns, 0, who, protocol)
    peers(lab, mtu=known)
    result = lab.run("from_uplink", full(who, protocol, fits, flags="A"))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
    assert len(result.packet) == 14 + MTU


def test_segments_of_an_open_connection_have_all_room(netns: str, lab: Lab, who: Addresses) -> None:
    lab = balancer(netns, lab.flags, who, "TCP", driver=lab.driver)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), payload=""))
    result = lab.run("from_uplink", full(who, "TCP", flags="A", seq=101))
    flow = (who.client, CLIENT, who.remote_pod, TARGET)
    wanted = full(who, "TCP", flags="A", seq=101, flow=flow, **TO_NETWORK)
    assert (result.code, result.packet) == (REDIRECT, bytes(wanted))


def test_a_path_that_is_narrower_than_the_device(netns: str, who: Addresses) -> None:
    """Routers on it would tell the client of an address that it does not know."""
    lab = balancer(netns, 0, who, "TCP")
    peers(lab, mtu=1400)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), payload=""))
    sent = full(who, "TCP", 1401, flags="A", seq=101)
    error = answer(who, who.node, sent, too_big(who, 1400))
    told_by_icmp(lab.run("from_uplink", sent), Verdict.ANSWER_TOO_BIG, error)


def test_a_datagram_that_may_be_cut(netns: str, lab: Lab) -> None:
    """It opens a masqueraded connection; in one that is known, it goes without the option."""
    who = V4
    before = refused(balancer(netns, 0, who, "UDP"), DsrRefusal.REFUSED_SIZE)
    lab = balancer(netns, lab.flags, who, "UDP", driver=lab.driver)
    peers(lab, mtu=MTU)
    sent = full(who, "UDP")
    sent[IP].flags = 0
    first = lab.run("from_uplink", sent)
    assert tuple_of(first.packet)[0] == who.node
    assert refused(lab, DsrRefusal.REFUSED_SIZE) == before + 1
    lab = balancer(netns, lab.flags, who, "UDP", driver=lab.driver)
    peers(lab, mtu=MTU)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), protocol="UDP"))
    result = lab.run("from_uplink", sent)
    assert tuple_of(result.packet) == (who.client, CLIENT, who.remote_pod, TARGET)
    assert len(result.packet) == 14 + MTU


def test_data_on_a_syn(netns: str, lab: Lab, who: Addresses) -> None:
    """TCP Fast Open (RFC 7413): the SYN has data and an option of TCP; both nodes leave them as they are."""
    lab = balancer(netns, lab.flags, who, "TCP", driver=lab.driver)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), payload="GET / HTTP/1.0")
    sent["TCP"].options = [(34, b"8bytes!!")]
    result = lab.run("from_uplink", sent)
    wanted = told(who, (who.client, CLIENT, who.remote_pod, TARGET), (who.node, PORT), TO_NETWORK,
                  payload="GET / HTTP/1.0", fast_open=b"8bytes!!")  # fmt: skip
    assert result.packet == bytes(wanted)
    lab = backend(netns, lab.flags, who, "TCP", driver=lab.driver)
    there = (who.client, CLIENT, who.pod, TARGET)
    syn = told(who, there, (who.service, 80), payload="GET / HTTP/1.0", fast_open=b"8bytes!!")
    assert lab.run("from_uplink", syn).packet.endswith(b"GET / HTTP/1.0")
    back = (who.pod, TARGET, who.client, CLIENT)
    result = lab.run("from_pod", segment(who, back, flags="SA", seq=70, ack=115, payload=""))
    assert tuple_of(result.packet) == (who.service, 80, who.client, CLIENT)
    lab.run("from_uplink", segment(who, there, flags="A", seq=115, ack=71, payload=""))
    assert len(list(lab.maps["flows"].items())) == 2, "the connection is confirmed"


def quoting(who: Addresses, source: str, to: str, quoted: Packet, mtu: int) -> Packet:
    """A router's error about a packet, as a frame."""
    ip = who.ip(source, to)
    return Ether(src=IN["smac"], dst=IN["dmac"]) / ip / too_big(who, mtu) / bytes(quoted.payload)


def test_an_error_about_an_answer_reaches_the_backend(netns: str, lab: Lab, who: Addresses) -> None:
    """A router near the client tells the frontend, which is this node; the pod is on another."""
    lab = balancer(netns, lab.flags, who, "UDP", driver=lab.driver)
    lab.run("from_uplink", segment(who, (who.client, CLIENT, who.node, PORT), protocol="UDP"))
    router = {4: "198.18.0.1", 6: "2001:db8:bee::1"}[who.version]
    answered = segment(who, (who.node, PORT, who.client, CLIENT), protocol="UDP")
    result = lab.run("from_uplink", quoting(who, router, who.node, answered, 1400))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.TO_NETWORK): 1}
    parsed = Ether(result.packet)
    outer = parsed[IP] if who.version == 4 else parsed[IPv6]
    inner = parsed[IPerror] if who.version == 4 else IPv6(bytes(parsed[ICMPv6PacketTooBig].payload))
    assert outer.dst == who.remote_pod
    assert (inner.src, inner.dst) == (who.remote_pod, who.client)


def test_an_answer_that_is_too_big_is_told_to_the_pod(netns: str, who: Addresses) -> None:
    lab = backend(netns, 0, who, "TCP")
    there, back = (who.client, CLIENT, who.pod, TARGET), (who.pod, TARGET, who.client, CLIENT)
    lab.run("from_uplink", told(who, there, (who.service, 80), payload=""))
    lab.run("from_pod", segment(who, back, flags="SA", seq=70, ack=101, payload=""))
    lab.run("from_uplink", segment(who, there, flags="A", seq=101, ack=71, payload=""))
    sent = full(who, "TCP", 1501, flow=back, flags="A", seq=71, ack=101)
    result = lab.run("from_pod", sent)
    error = answer(who, who.node, sent, too_big(who, 1500))
    told_by_icmp(result, Verdict.ANSWER_TOO_BIG, error)


def test_hops_that_are_used_up(netns: str, who: Addresses, protocol: str) -> None:
    lab = balancer(netns, 0, who, protocol)
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol=protocol, ttl=1)
    result = lab.run("from_uplink", sent)
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.ANSWER_TTL_EXPIRED): 1}
    quoted = bytes(sent.payload)
    assert result.packet.endswith(quoted), "as the client has sent it"


def test_the_extension_header_is_cilium_s(netns: str, who: Addresses) -> None:
    lab = balancer(netns, 0, who, "UDP")
    sent = segment(who, (who.client, CLIENT, who.node, PORT), protocol="UDP")
    raw = lab.run("from_uplink", sent).packet
    if who.version == 4:
        assert raw[14:16] == b"\x47\x00"
        assert raw[34:42] == b"\x9a\x08" + PORT.to_bytes(2, "big") + bytes((192, 168, 1, 31))
    else:
        assert raw[20] == 60
        assert raw[54:58] == b"\x11\x02\x1b\x14"
        assert raw[74:78] == PORT.to_bytes(2, "big") + bytes(2)
        assert Ether(raw)[IPv6ExtHdrDestOpt].len == 2
