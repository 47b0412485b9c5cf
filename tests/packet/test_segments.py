# SPDX-License-Identifier: Apache-2.0
"""What a segment changes of its connection: what its receiver would take (RFC 9293, RFC 5961), and nothing else."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6ExtHdrHopByHop, Jumbo
from scapy.layers.l2 import Ether

from kubypass.model.verdict import FlowDirection, FlowFlag, FlowState
from tests.packet.headers import bare, between
from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import Addresses, segment
from tests.packet.segments import SECOND_NS, WRAP, Conversation

NEW, ESTABLISHED = FlowState.NEW, FlowState.ESTABLISHED
CLOSING, CLOSED = FlowState.CLOSING, FlowState.CLOSED
FAR = (1, 1 << 16, 1 << 21, 1 << 31, -1, -(1 << 21))
"""How far off a forged number is."""


@pytest.fixture
def begun(lab: Lab, who: Addresses) -> Conversation:
    """A connection that nothing was sent on."""
    lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    return Conversation(lab, who)


@pytest.fixture
def idle(begun: Conversation) -> Conversation:
    """A connection that has been used."""
    return begun.open().talk()


def unchanged(idle: Conversation) -> bool:
    """The connection lives, goes on, and closes as if nothing had happened."""
    lives = idle.lives
    idle.talk()
    assert idle.ask("PA", payload="more") == idle.backend
    idle.client += 4
    idle.answer("A")
    idle.ask("R")
    return lives and idle.states == (CLOSED, CLOSED) and idle.left_s < 11


@pytest.mark.parametrize("flags", ["R", "RA", "S", "F", "FA", "SF", "SR", "SA", "SFRPA", "PA", ""])
def test_a_forged_segment_of_the_client_changes_nothing(idle: Conversation, flags: str) -> None:
    for off in FAR:
        if "F" in flags and "R" not in flags and "S" not in flags and abs(off) < 1 << 20:
            continue  # the receiver keeps what is ahead in its window, and drops what it has
        backend = idle.ask(flags, seq=idle.client + off, ack=idle.server + off)
        assert backend == idle.backend
    assert unchanged(idle)


@pytest.mark.parametrize("flags", ["R", "RA", "S", "F", "FA", "SA", "PA", ""])
def test_nor_does_one_of_the_server(idle: Conversation, flags: str) -> None:
    for off in FAR:
        if "F" in flags and abs(off) < 1 << 20:
            continue
        idle.answer(flags, seq=idle.server + off, ack=idle.client + off)
    assert unchanged(idle)


def test_fins_in_both_windows_do_not_close_while_nobody_has_taken_one(idle: Conversation) -> None:
    """The receiver keeps a FIN that is ahead until the data before it comes, and drops one of old numbers."""
    for off in (1 << 16, -1, -100):
        idle.ask("FA", seq=idle.client + off)
        idle.answer("FA", seq=idle.server + off)
    assert CLOSED not in idle.states
    assert idle.left_s > 7000


def test_a_syn_stays_with_the_backend_until_the_connection_is_over(idle: Conversation) -> None:
    """A forged one gets a challenge, whose answer only the true client would give."""
    for number in range(20):
        assert idle.ask("S", seq=123_456 * number) == idle.backend
    assert idle.lives
    idle.answer("A")
    idle.ask("R")  # the true client has forgotten the connection: the number of the challenge
    assert idle.states == (CLOSED, CLOSED)


def test_a_port_is_used_again_at_once(begun: Conversation) -> None:
    """Each connection of it gets a backend of its own, and all numbers anew."""
    who = begun.who
    backends = {who.second_pod: 2, who.remote_pod: 3}
    for number, (backend, listed) in enumerate([*backends.items()] * 3):
        begun.lab.relist(listed, listed)
        begun.client, begun.server = (number * 77_777_777) % WRAP, (number * 99_999_999) % WRAP
        begun.open().talk()
        assert (begun.lives, begun.backend) == (True, backend)
        begun.ask("FA")
        begun.client += 1
        begun.answer("FA")
        begun.server += 1
        begun.ask("A")
        assert begun.states == (CLOSED, CLOSED)


@pytest.mark.parametrize("who_ends", ["client", "server"])
@pytest.mark.parametrize("ahead", [0, 1000])
def test_a_reset_ends(idle: Conversation, who_ends: str, ahead: int) -> None:
    """At the number that the other end waits for, or after data that is still on its way."""
    if who_ends == "client":
        if ahead:
            idle.ask("PA", payload="x" * ahead)
        idle.ask("RA", seq=idle.client + ahead)
    else:
        if ahead:
            idle.answer("PA", payload="x" * ahead)
        idle.answer("RA", seq=idle.server + ahead)
    assert idle.states == (CLOSED, CLOSED)
    assert idle.left_s < 11


def test_closing_one_after_the_other(idle: Conversation) -> None:
    idle.ask("FA")
    idle.client += 1
    assert idle.states == (CLOSING, ESTABLISHED)
    idle.answer("A")
    idle.ask("FA", seq=idle.client - 1)  # again
    idle.answer("PA", payload="the rest")
    idle.server += 8
    assert idle.left_s > 7000, "one side may go on"
    idle.answer("FA")
    assert idle.states == (CLOSED, CLOSED), "the client's FIN is acknowledged"
    idle.ask("A", ack=idle.server + 1)
    assert idle.left_s < 11


def test_closing_at_the_same_time(idle: Conversation) -> None:
    idle.ask("FA")
    idle.answer("FA")
    assert idle.states == (CLOSING, CLOSING)
    idle.ask("A", seq=idle.client + 1, ack=idle.server + 1)
    assert idle.states == (CLOSED, CLOSED)


def test_a_refused_connection_ends(begun: Conversation) -> None:
    begun.backend = begun.ask("S", payload="early data")
    begun.answer("RA", seq=0, ack=12345)
    assert begun.states == (NEW, NEW), "it acknowledges another SYN"
    begun.answer("RA", seq=0, ack=begun.client + 11)
    assert begun.states == (CLOSED, CLOSED)


def test_a_server_that_gives_up_before_the_handshake_is_over(begun: Conversation) -> None:
    begun.backend = begun.ask("S")
    begun.client += 1
    begun.answer("SA")
    begun.answer("R", seq=begun.server)
    assert begun.states == (NEW, ESTABLISHED), "one number too low"
    begun.answer("R", seq=begun.server + 1)
    assert begun.states == (CLOSED, CLOSED)


@pytest.mark.parametrize("payload", ["", "early data"])
def test_forged_segments_in_the_handshake(begun: Conversation, payload: str) -> None:
    begun.backend = begun.ask("S", payload=payload)
    for number in (1, 77, 1 << 30):
        assert begun.ask("S", seq=number) == begun.backend
        begun.ask("A", seq=number, ack=number)
        begun.ask("R", seq=number)
        begun.answer("SA", seq=number, ack=number)
        begun.answer("RA", seq=number, ack=number)
    begun.client += 1 + len(payload)
    begun.answer("SA")
    begun.server += 1
    assert begun.states == (NEW, ESTABLISHED)
    for number in (2, 78, 1 << 29):
        begun.answer("SA", seq=number, ack=number)
        begun.ask("S", seq=number)
        begun.ask("RA", seq=number)
        begun.ask("FA", seq=number, ack=number)
    assert begun.states == (NEW, ESTABLISHED)
    assert 50 < begun.left_s < 61
    begun.ask("A")
    assert begun.lives
    assert unchanged(begun)


def test_the_server_has_seen_the_second_syn_only(begun: Conversation) -> None:
    """The first was forged, or of a client that gave up, and was lost."""
    begun.ask("S", seq=1 << 30)
    begun.open()
    assert unchanged(begun)


def test_the_server_may_speak_before_the_handshake_is_over(begun: Conversation) -> None:
    """To early data of a client (RFC 7413)."""
    begun.backend = begun.ask("S", payload="early data")
    begun.client += 11
    begun.answer("SA", payload="early answer")
    begun.server += 13
    begun.answer("PA", payload="x" * 900)
    begun.ask("A")
    begun.server += 900
    begun.ask("A")
    assert unchanged(begun)


def test_numbers_wrap_around(begun: Conversation) -> None:
    begun.client, begun.server = WRAP - 3, WRAP - 10
    begun.open().talk("GET /", "200 OK and more")
    assert begun.lives
    begun.client %= WRAP
    begun.server %= WRAP
    assert unchanged(begun)


def test_probes_and_losses_change_nothing(idle: Conversation) -> None:
    idle.ask("A", seq=idle.client - 1)  # keep-alive
    idle.answer("A")
    idle.answer("A", seq=idle.server - 1, payload="x")  # with the last byte; and of a zero window
    idle.ask("A")
    idle.ask("PA", seq=idle.client + 50_000, payload="after a hole")
    idle.client += 50_012
    idle.answer("A")
    assert unchanged(idle)


def test_a_hole_of_megabytes_heals(idle: Conversation) -> None:
    """Half a minute in which another path was taken: what one direction says brings the other up to date."""
    for flow, value in idle.lab.flows().items():
        idle.lab.put_flow(flow, value._replace(expires_ns=value.expires_ns - 2 * 10**9))
    idle.client += 1 << 24
    idle.answer("A", payload="x")  # acknowledges what was not seen here
    idle.server += 1
    idle.ask("A")
    idle.ask("FA")
    assert idle.states[0] in {ESTABLISHED, CLOSING}
    assert idle.left_s > 7000


def a_second_passes(idle: Conversation) -> None:
    for key, flow in idle.lab.flows().items():
        later = flow._replace(expires_ns=flow.expires_ns - 2 * SECOND_NS)
        idle.lab.put_flow(key, later)


@pytest.mark.parametrize("flags", ["R", "FA", "PA"])
def test_entries_of_an_earlier_version_learn_their_numbers(idle: Conversation, flags: str) -> None:
    """They say nothing of numbers, and live on, whoever shows some first; both directions prove theirs in time."""
    for key, flow in idle.lab.flows().items():
        plain = flow._replace(flags=0, end=0, acknowledged=0)
        idle.lab.put_flow(key, plain)
    idle.ask(flags, seq=0, ack=5)
    idle.ask("R", seq=77)
    idle.answer("RA", seq=0, ack=0)
    assert idle.lives
    for _ in range(2):
        a_second_passes(idle)
        idle.talk()
    assert all(idle.flow(direction).flags & FlowFlag.NUMBERED for direction in FlowDirection)
    idle.ask("R")
    assert idle.states == (CLOSED, CLOSED)


def test_icmp_errors_change_nothing(idle: Conversation) -> None:
    """Whatever they quote; the sender that they are for looks at the number."""
    who = idle.who
    before = idle.lab.flows()
    for number in (0, 77, idle.client):
        quoted = segment(who, (who.pod, idle.port, idle.backend, 8080), seq=number)
        inner = bytes(quoted)[14:]
        error = ICMP(type=3, code=3) if who.version == 4 else ICMPv6DestUnreach(code=4)
        ip = who.ip(idle.backend, who.pod)
        idle.lab.run("from_uplink", Ether() / ip / error / inner)
    assert idle.lab.flows() == before
    assert unchanged(idle)


def test_padding_of_a_link_is_no_data(idle: Conversation) -> None:
    who, end = idle.who, idle.flow(FlowDirection.FORWARD).end
    flow = (who.pod, idle.port, who.service, 80)
    packet = segment(who, flow, flags="A", seq=idle.client, ack=idle.server, payload="")
    idle.lab.run("from_pod", bytes(packet) + bytes(6))
    assert idle.flow(FlowDirection.FORWARD).end == end


def test_lengths_that_do_not_fit_the_header(idle: Conversation) -> None:
    """BIG TCP: the header says zero, and the packet has that many bytes; what follows them is the next number."""
    who, size = idle.who, 3000
    packet = segment(who, (who.pod, idle.port, who.service, 80), flags="PA", payload="x" * size)
    packet["TCP"].seq, packet["TCP"].ack = idle.client, idle.server
    forms, jumbo = [bytes(packet)], IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=70000)])
    if who.version == 6:
        forms.append(bytes(between(packet, jumbo)))
    for form in forms:
        result = idle.lab.run("from_pod", bare(form, length=0), segment_bytes=1400)
        assert result.code == REDIRECT, result.counted
        assert idle.flow(FlowDirection.FORWARD).end == idle.client + size
    idle.client += size
    idle.ask("R")
    assert idle.states == (CLOSED, CLOSED)
