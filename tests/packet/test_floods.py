# SPDX-License-Identifier: Apache-2.0
"""Connections that nobody has confirmed stay where they evict nothing else, and give their source ports to others."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.model.constants import PORT_PAIRS, REFRESH_NS
from kubypass.model.verdict import FlowDirection, FlowFlag, FlowState
from tests.packet.lab import Lab
from tests.packet.packets import Addresses, segment
from tests.packet.segments import SECOND_NS, Conversation
from tests.packet.snat import answer, ask, clients, connect, made

FEW: dict[str, Any] = {"snat_port_first": 61000, "snat_ports": 40}


def entries(lab: Lab) -> tuple[int, int]:
    """Living entries of confirmed connections, and of others."""
    found = [0, 0]
    for at, name in enumerate(("flows", "transient_flows")):
        for _, value in list(lab.maps[name].items()):
            found[at] += layout.Flow.unpack(value).expires_ns > 1
    return found[0], found[1]


def age(lab: Lab, seconds: float) -> None:
    """Time passes for all connections."""
    for key, flow in lab.flows().items():
        lab.put_flow(key, flow._replace(expires_ns=flow.expires_ns - int(seconds * SECOND_NS)))


@pytest.fixture
def begun(lab: Lab, who: Addresses) -> Conversation:
    lab.service(who.service, 80, [who.second_pod, who.remote_pod])
    return Conversation(lab, who)


def test_a_connection_moves_once_the_client_acknowledges_the_servers_number(
    begun: Conversation,
) -> None:
    begun.backend = begun.ask("S")
    assert entries(begun.lab) == (0, 2)
    begun.client += 1
    begun.answer("SA")
    begun.server += 1
    assert entries(begun.lab) == (0, 2)
    begun.ask("A")
    assert entries(begun.lab) == (2, 0)
    assert begun.lives
    begun.talk()
    assert not any(flow.flags & FlowFlag.OPENING for flow in begun.lab.flows().values())


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
def test_what_a_flood_sends_moves_nothing(begun: Conversation, answered: bool) -> None:
    begun.backend = begun.ask("S")
    if answered:
        begun.answer("SA", ack=begun.client + 1)
    for flags in ("S", "A", "PA", "FA", "SA", "R", "RA", ""):
        for number in (0, 1, begun.client + 1, begun.server ^ 1 << 31):
            begun.ask(flags, ack=number)
            begun.ask(flags, seq=begun.client + 1, ack=number)
    assert entries(begun.lab)[0] == 0


def test_a_repeated_syn_does_not_extend_the_attempt(begun: Conversation) -> None:
    begun.backend = begun.ask("S")
    age(begun.lab, 30)
    for flags in ("S", "SA"):
        assert begun.ask(flags) == begun.backend
    assert begun.left_s < 31
    begun.client += 1
    begun.answer("SA")
    begun.server += 1
    begun.ask("A")
    assert begun.lives


def test_a_used_port_takes_both_entries_of_its_connection_before(begun: Conversation) -> None:
    """The entry of a closed connection does not hide that of the one that opens."""
    begun.open().talk()
    begun.answer("R")
    assert begun.states == (FlowState.CLOSED, FlowState.CLOSED)
    begun.client += 99_999_999
    begun.open().talk()
    assert begun.lives
    assert entries(begun.lab) == (2, 0)


def test_datagrams_stay_and_are_told_apart(lab: Lab, who: Addresses) -> None:
    """A client that goes on after an answer has an entry that gives way to nobody."""
    lab.service(who.service, 80, [who.remote_pod], protocol="UDP")
    asked = segment(who, (who.pod, 40000, who.service, 80), protocol="UDP")
    answered = segment(who, (who.remote_pod, 8080, who.pod, 40000), protocol="UDP")
    lab.run("from_pod", asked)
    age(lab, 2)
    lab.run("from_pod", asked)
    assert all(flow.flags & FlowFlag.OPENING for flow in lab.flows().values()), "no answer yet"
    lab.run("from_uplink", answered)
    age(lab, 2)
    lab.run("from_pod", asked)
    assert not any(flow.flags & FlowFlag.OPENING for flow in lab.flows().values())
    assert entries(lab) == (0, 2)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_attempts_give_way_where_no_port_is_free(netns: str, who: Addresses, protocol: str) -> None:
    lab = made(netns, who, protocol, **FEW)
    hosts = clients(who, 50)
    ports = [ask(lab, who, (host, 40000), protocol=protocol) for host in hosts[:41]]
    assert 0 not in ports
    age(lab, 2)
    late = ask(lab, who, (hosts[45], 40000), protocol=protocol)
    assert late in ports
    assert answer(lab, who, late, protocol=protocol) == (hosts[45], 40000)


def confirmed(lab: Lab, who: Addresses, hosts: list[str], protocol: str) -> dict[str, int]:
    """Connections that clients have gone on with after an answer; their source ports."""
    if protocol == "TCP":
        return {host: connect(lab, who, (host, 40000)) for host in hosts}
    ports = {host: ask(lab, who, (host, 40000), protocol=protocol) for host in hosts}
    for port in ports.values():
        answer(lab, who, port, protocol=protocol)
    age(lab, 2)
    for host, port in ports.items():
        assert ask(lab, who, (host, 40000), protocol=protocol) == port
    return ports


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_confirmed_connections_never_do(netns: str, who: Addresses, protocol: str) -> None:
    lab = made(netns, who, protocol, **FEW)
    hosts = clients(who, 50)
    ports = confirmed(lab, who, hosts[:40], protocol)
    ports[hosts[40]] = ask(lab, who, (hosts[40], 40000), protocol=protocol)
    late = ask(lab, who, (hosts[45], 40000), protocol=protocol)
    assert late == 0, "the one attempt is a moment old"
    age(lab, 2)
    for host in hosts[41:44]:
        assert ask(lab, who, (host, 40000), protocol=protocol) == ports[hosts[40]]
        age(lab, 2)
    for host in hosts[:40]:
        assert answer(lab, who, ports[host], protocol=protocol, flags="A") == (host, 40000)


def test_a_free_port_comes_before_one_of_an_attempt(netns: str, who: Addresses) -> None:
    lab = made(netns, who)
    first, second = clients(who, 2)
    assert ask(lab, who, (first, 40000)) == 40000
    age(lab, 2)
    assert ask(lab, who, (second, 40000)) >= 61000
    assert answer(lab, who, 40000) == (first, 40000)


def test_a_client_takes_its_own_port_again(netns: str, who: Addresses) -> None:
    """Its connection before is confirmed, and lives; only the client's own entry was evicted."""
    lab = made(netns, who)
    (host,) = clients(who, 1)
    assert connect(lab, who, (host, 40000)) == 40000
    lab.forget_flows(replies=False)
    assert ask(lab, who, (host, 40000), flags="A") == 40000
    replies = [f for f in lab.flows().values() if f.direction == FlowDirection.REPLY]
    assert len(replies) == 1


def test_a_flow_of_datagrams_is_looked_for_while_it_lives(lab: Lab, who: Addresses) -> None:
    """Each packet that lets both entries live on lets their ports be looked for as long."""
    lab.service(who.service, 80, [who.remote_pod], protocol="UDP")
    asked = segment(who, (who.pod, 40000, who.service, 80), protocol="UDP")
    lab.run("from_pod", asked)
    age(lab, 50)
    soon = time.monotonic_ns() // REFRESH_NS + 1
    keys = struct.pack(f"={PORT_PAIRS}I", *range(PORT_PAIRS))
    ports = lab.maps["transient_ports"]
    ports.update_batch(keys, struct.pack("=I", soon) * PORT_PAIRS, PORT_PAIRS)
    lab.run("from_pod", asked)
    (end,) = {flow.expires_ns for flow in lab.flows().values()}
    untils = [struct.unpack("=I", value)[0] for _, value in ports.items()]
    assert [until * REFRESH_NS >= end for until in untils if until != soon] == [True, True]
