# SPDX-License-Identifier: Apache-2.0
"""What XDP sends in DSR mode, and what it leaves to from_uplink as it came.

That both make the same of a packet is shown by the rows of DSR: each runs once more with XDP before from_uplink.
"""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet import IP

from kubypass.model.verdict import DsrDispatch, DsrRefusal, FlowState, Hook, Verdict
from tests.packet.at_driver import by_driver, by_uplink, request, without_checksum
from tests.packet.driver import TX
from tests.packet.dsr import (
    OPTION_BYTES,
    PORT,
    TARGET,
    balancer,
    option,
    peers,
    refused,
    told,
    with_option,
)
from tests.packet.lab import Lab
from tests.packet.packets import IN, TO_NETWORK, V4, Addresses, segment
from tests.packet.snat import tuple_of

CLIENT, MTU = 40000, 1500


@pytest.fixture
def sender(netns: str, who: Addresses, protocol: str) -> Lab:
    """A node that balances in DSR mode, with XDP before from_uplink."""
    return balancer(netns, 0, who, protocol, driver=True)


@pytest.fixture
def tcp_sender(netns: str, who: Addresses) -> Lab:
    return balancer(netns, 0, who, "TCP", driver=True)


def padded(who: Addresses, protocol: str, length: int, **options: Any) -> Any:
    """A client's packet of this length, which no router may cut."""
    headers = {4: 20, 6: 40}[who.version] + (8 if protocol == "UDP" else 20)
    packet = request(who, protocol=protocol, payload="x" * (length - headers), **options)
    if who.version == 4:
        packet[IP].flags = "DF"
    return packet


def test_new_and_known_connections_leave_here(sender: Lab, who: Addresses, protocol: str) -> None:
    """Whole packets: what begins a connection, and each datagram, has the option; other segments have not."""
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    for number, flags in enumerate("SAA"):
        more: dict[str, Any] = {"protocol": protocol, "flags": flags, "seq": 100 + 5 * number}
        result = by_driver(sender, request(who, **more))
        has_option = protocol == "UDP" or flags == "S"
        wanted = (
            told(who, there, (who.node, PORT), TO_NETWORK, **more)
            if has_option
            else segment(who, there, **{**more, **TO_NETWORK})
        )
        assert (result.driver_code, result.packet) == (TX, bytes(wanted))
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
    assert len(sender.flows()) == 2


def test_both_know_the_connections_of_the_other(sender: Lab, who: Addresses, protocol: str) -> None:
    """A connection that begins in one program goes on in the other, however often that changes."""
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    for number, drives in enumerate((True, False, True, False)):
        sender.driver = drives
        more = {"protocol": protocol, "flags": "A" if number else "S", "seq": 100 + 5 * number}
        result = (by_driver if drives else by_uplink)(sender, request(who, **more))
        assert tuple_of(result.packet) == there
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DSR): 1}
    assert len(sender.flows()) == 2


@pytest.mark.parametrize("known", [MTU, 0], ids=["of the path", "of the device"])
def test_what_does_not_fit_with_the_option(
    sender: Lab, who: Addresses, protocol: str, known: int
) -> None:
    """The longest packet that fits leaves here; one that is a byte longer is from_uplink's to answer."""
    peers(sender, mtu=known)
    fits = MTU - OPTION_BYTES[who.version]
    longest = by_driver(sender, padded(who, protocol, fits))
    assert len(longest.packet) == 14 + MTU
    for port in (CLIENT, CLIENT + 1):  # of a known connection, and of a new one
        packet = padded(who, protocol, fits + 1)
        packet["UDP" if protocol == "UDP" else "TCP"].sport = port
        result = by_uplink(sender, packet)
        assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.ANSWER_TOO_BIG): 1}


def test_segments_without_the_option_have_all_room(tcp_sender: Lab, who: Addresses) -> None:
    peers(tcp_sender, mtu=MTU)
    by_driver(tcp_sender, request(who, payload=""))
    result = by_driver(tcp_sender, padded(who, "TCP", MTU, flags="A", seq=101))
    assert len(result.packet) == 14 + MTU
    peers(tcp_sender, mtu=MTU - 1)
    result = by_uplink(tcp_sender, padded(who, "TCP", MTU, flags="A", seq=101))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.ANSWER_TOO_BIG): 1}


def test_what_cannot_be_dsr_is_refused_once(sender: Lab, who: Addresses, protocol: str) -> None:
    """XDP leaves it to from_uplink, which counts the refusal and masquerades."""
    before = refused(sender, DsrRefusal.REFUSED_PEER)
    peers(sender, DsrDispatch.NONE)
    result = by_uplink(sender, request(who, protocol=protocol))
    assert tuple_of(result.packet)[0] == who.node
    assert refused(sender, DsrRefusal.REFUSED_PEER) == before + 1
    # The masqueraded connection is an ordinary one: it goes on here.
    assert tuple_of(by_driver(sender, request(who, protocol=protocol)).packet)[0] == who.node


def test_a_syn_in_vain(tcp_sender: Lab, who: Addresses) -> None:
    """Repeated twice it still has the option; then from_uplink masquerades the connection, and counts that."""
    before = refused(tcp_sender, DsrRefusal.REFUSED_UNANSWERED)
    for _ in range(3):
        assert tuple_of(by_driver(tcp_sender, request(who)).packet)[0] == who.client
    assert tuple_of(by_uplink(tcp_sender, request(who)).packet)[0] == who.node
    assert refused(tcp_sender, DsrRefusal.REFUSED_UNANSWERED) == before + 1


def test_a_segment_of_an_unknown_connection(tcp_sender: Lab, who: Addresses) -> None:
    """The network has moved the connection here: from_uplink opens it, and the next segments leave here."""
    there = (who.client, CLIENT, who.remote_pod, TARGET)
    more: dict[str, Any] = {"flags": "A", "seq": 5000, "ack": 9000}
    first = by_uplink(tcp_sender, request(who, **more))
    assert first.packet == bytes(told(who, there, (who.node, PORT), TO_NETWORK, **more))
    second = by_driver(tcp_sender, request(who, **more))
    assert second.packet == bytes(segment(who, there, **{**more, **TO_NETWORK}))


def test_what_arrives_with_the_option(sender: Lab, who: Addresses, protocol: str) -> None:
    """It is from_uplink's to obey or to drop, whatever connection it looks like."""
    by_driver(sender, request(who, protocol=protocol))
    for named in ((who.other_node, PORT), (who.node, PORT)):
        by_uplink(sender, with_option(request(who, protocol=protocol, flags="A"), option(named)))


def test_it_follows_the_client(tcp_sender: Lab, who: Addresses) -> None:
    """A handshake of which XDP sees the client's half confirms the connection, and its FIN closes it."""
    states = []
    for flags, seq in (("S", 99), ("A", 100), ("FA", 100)):
        by_driver(tcp_sender, request(who, flags=flags, seq=seq, ack=500, payload=""))
        flows = tcp_sender.flows()
        (forward,) = (flow for key, flow in flows.items() if key.destination_port == PORT)
        states.append((forward.state, len(list(tcp_sender.maps["flows"].items()))))
    assert states == [(FlowState.NEW, 0), (FlowState.ESTABLISHED, 2), (FlowState.CLOSED, 2)]


def test_hops_that_are_used_up(sender: Lab, who: Addresses, protocol: str) -> None:
    """Nothing is opened before it is known that the packet leaves here: from_uplink would count a repeated SYN."""
    result = by_uplink(sender, request(who, protocol=protocol, ttl=1))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.ANSWER_TTL_EXPIRED): 1}


def test_a_checksum_that_is_left_to_a_device(sender: Lab, who: Addresses, protocol: str) -> None:
    """XDP leaves it to from_uplink, in a known connection and in a new one."""
    by_driver(sender, request(who, protocol=protocol))
    for port in (CLIENT, CLIENT + 1):
        flow = (who.client, port, who.node, PORT)
        by_uplink(sender, without_checksum(segment(who, flow, protocol=protocol, flags="S", **IN)))


def test_a_datagram_that_may_be_cut(netns: str) -> None:
    """Only from_uplink sends it without the option."""
    lab = balancer(netns, 0, V4, "UDP", driver=True)
    peers(lab, mtu=MTU)
    by_driver(lab, request(V4, protocol="UDP"))
    packet = padded(V4, "UDP", MTU)
    packet[IP].flags = 0
    result = by_uplink(lab, packet)
    assert tuple_of(result.packet)[0] == V4.client
    assert len(result.packet) == 14 + MTU
