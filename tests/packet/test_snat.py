# SPDX-License-Identifier: Apache-2.0
"""Source ports of connections through the node to backends elsewhere."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kubypass.datapath import layout
from kubypass.datapath.snat_failures import read_snat_failures
from kubypass.kernel.netns import inside
from kubypass.model.address import parse_address
from kubypass.model.verdict import FlowState, Hook, ServiceFlag, Verdict
from kubypass_lab.box.patience import DEADLINE_S
from tests.packet.lab import NUMBERS
from tests.packet.packets import Addresses, segment
from tests.packet.snat import NODE_PORT, answer, ask, clients, connect, empty, made, take, tuple_of

FEW: dict[str, Any] = {"snat_port_first": 61000, "snat_ports": 40}


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_storm_of_clients_with_the_same_ports(place: str, who: Addresses, protocol: str) -> None:
    """No two connections share a key, and every answer goes to its own client."""
    lab = made(place, who, protocol)
    asked = [(host, port) for port in (40000, 40001, 61007) for host in clients(who, 400)]
    random.shuffle(asked)
    ports = {client: ask(lab, who, client, protocol=protocol) for client in asked}
    assert len(set(ports.values())) == len(asked)
    assert 0 not in ports.values()
    assert all(port in {40000, 40001} or port >= 61000 for port in ports.values())
    assert {40000, 40001, 61007} <= set(ports.values()), "a port that is free stays"
    for client, port in ports.items():
        assert answer(lab, who, port, protocol=protocol) == client


def test_exhaustion_is_a_drop_that_is_counted_by_backend(place: str, who: Addresses) -> None:
    lab = made(place, who, **FEW)
    sources = clients(who, 45)
    ports = [connect(lab, who, (host, 40000)) for host in sources]
    assert sorted(ports[:41]) == [40000, *range(61000, 61040)]
    assert ports[41:] == [0] * 4
    (failure,) = read_snat_failures(lab.maps["snat_failures"])
    assert failure[:4] == (4, parse_address(who.remote_pod), 8080, NUMBERS["TCP"])
    assert time.monotonic_ns() - failure.last_ns < 10 * 10**9
    result = lab.run("from_uplink", segment(who, (sources[44], 40000, who.node, NODE_PORT)))
    assert dict(result.counted) == {(Hook.FROM_UPLINK, Verdict.DROP_NO_SNAT_PORT): 1}
    assert ask(lab, who, (sources[44], 40001)) == 40001, "another port of its own is free"


@pytest.mark.parametrize("ending", ["fin", "reset by the client", "refused by the backend"])
def test_the_port_of_a_connection_that_ended_comes_back(
    place: str, who: Addresses, ending: str
) -> None:
    """After the time for closed connections, here none: not after that for established ones."""
    lab = made(place, who, **FEW, tcp_fin_timeout_ns=1)
    sources = clients(who, 43)
    closed, late = sources[20], sources[42]
    others = [host for host in sources[:41] if host != closed]
    ports = {host: connect(lab, who, (host, 40000)) for host in others}
    ports[closed] = ask(lab, who, (closed, 40000))
    client = (closed, 40000)
    asked, answered = {"payload": "", "seq": 106}, {"payload": "", "seq": 700, "ack": 106}
    if ending == "refused by the backend":
        answer(lab, who, ports[closed], **{**answered, "flags": "RA", "seq": 0})
    else:
        answer(lab, who, ports[closed], **answered)
        ask(lab, who, client, flags="A", ack=701, **asked)
        assert ask(lab, who, (late, 40000)) == 0
        if ending == "fin":
            ask(lab, who, client, flags="FA", ack=701, **asked)
            assert ask(lab, who, (late, 40000)) == 0, "one side has closed"
            answer(lab, who, ports[closed], **{**answered, "flags": "FA", "seq": 701, "ack": 107})
        else:
            ask(lab, who, client, flags="R", **asked)
    deadline = time.monotonic() + DEADLINE_S
    while not (port := ask(lab, who, (late, 40000))):
        assert time.monotonic() < deadline, "the clock has to tick once"
    assert port == ports[closed]
    assert answer(lab, who, port) == (late, 40000)


def test_a_late_reset_of_an_old_connection_leaves_the_new_one_of_its_port_alone(
    place: str, who: Addresses
) -> None:
    lab = empty(place)
    other = who.remote_pod.replace("14", "15")
    ids = lab.service(who.node, NODE_PORT, [who.remote_pod, other], flags=ServiceFlag.NODE_PORT)
    request = (who.client, 40000, who.node, NODE_PORT)
    backends: list[str] = []
    for listed in ids:
        lab.relist(listed, listed)
        result = lab.run("from_uplink", segment(who, request, payload=""))
        backends.append(tuple_of(result.packet)[2])
        answer = {"payload": "", "seq": 700, "ack": 101}
        back = (backends[-1], 8080, who.node, 40000)
        lab.run("from_uplink", segment(who, back, flags="SA", **answer))
        if listed == ids[0]:
            lab.run("from_uplink", segment(who, back, flags="R", **{**answer, "seq": 701}))
    ask = segment(who, request, flags="A", seq=101, ack=701, payload="")
    lab.run("from_uplink", ask)
    old, new = backends[0], backends[-1]
    lab.run("from_uplink", segment(who, (old, 8080, who.node, 40000), flags="R", seq=701))
    node, client = parse_address(who.node), parse_address(who.client)
    flow = lab.flows()[layout.Tuple(client, node, 40000, NODE_PORT, NUMBERS["TCP"])]
    assert (flow.destination, flow.state) == (parse_address(new), FlowState.ESTABLISHED)
    assert flow.expires_ns - time.monotonic_ns() > 7000 * 10**9


@pytest.mark.parametrize("taken", ["at random", "all in a stretch"])
def test_nine_ports_of_ten_may_be_taken(place: str, who: Addresses, taken: str) -> None:
    lab = made(place, who, snat_ports=1000)
    ports = range(61000, 62000)
    gone = random.sample(ports, 900) if taken == "at random" else ports[:900]
    for port in [40000, *gone]:
        take(lab, who, port)
    for host in clients(who, 60):
        port = ask(lab, who, (host, 40000))
        assert port in ports
        assert port not in gone
        take(lab, who, port)
        assert not read_snat_failures(lab.maps["snat_failures"])


def test_the_extra_range_follows_on_the_first(place: str, who: Addresses) -> None:
    lab = made(place, who, snat_ports=3, snat_extra_first=20000, snat_extra_ports=4)
    ports = {ask(lab, who, (host, 40000)) for host in clients(who, 8)}
    assert ports == {40000, 61000, 61001, 61002, 20000, 20001, 20002, 20003}


@pytest.mark.parametrize("port", [NODE_PORT, 32768, 50000, 61000, 8080])
def test_a_clients_own_port_is_kept_whatever_it_is(place: str, who: Addresses, port: int) -> None:
    """A NodePort (the client's is on its own host), an ephemeral port, one of ours."""
    lab = made(place, who)
    client = (clients(who, 1)[0], port)
    assert ask(lab, who, client) == port
    assert answer(lab, who, port) == client
    other = (clients(who, 2)[1], port)
    second = ask(lab, who, other)
    assert second >= 61000
    assert answer(lab, who, second) == other


def test_a_port_of_the_systems_own_is_not_kept(place: str, who: Addresses) -> None:
    lab = made(place, who)
    assert ask(lab, who, (who.client, 1023)) >= 61000
    assert ask(lab, who, (who.client, 1024)) == 1024


@contextmanager
def node_socket(place: str, who: Addresses, protocol: str, port: int) -> Iterator[None]:
    """A socket of the node's own on its way to the backend."""
    family = socket.AF_INET if who.version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with inside(place), socket.socket(family, kind) as own:
        own.setblocking(False)
        own.bind((who.node, port))
        own.connect_ex((who.remote_pod, 8080))
        yield


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_port_that_a_socket_of_the_node_has_is_not_kept(
    place: str, who: Addresses, protocol: str
) -> None:
    lab = made(place, who, protocol)
    with node_socket(place, who, protocol, 40000):
        port = ask(lab, who, (who.client, 40000), protocol=protocol)
        assert port >= 61000
        assert answer(lab, who, port, protocol=protocol) == (who.client, 40000)
    with node_socket(place, who, protocol, port + 1):
        other = ask(lab, who, (clients(who, 1)[0], 40000), protocol=protocol)
        third = ask(lab, who, (clients(who, 2)[1], 40000), protocol=protocol)
    assert other == 40000, "the socket has gone"
    assert third == port + 2, "nor is one drawn that a socket has"
