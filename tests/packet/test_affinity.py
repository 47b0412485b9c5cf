# SPDX-License-Identifier: Apache-2.0
"""Session affinity: a client's new connections get the endpoint of the previous one, from objects to packets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.packet.objects import NODE_PORT, PORT, endpoint, endpoint_slice, places, put, service
from tests.packet.packets import Addresses, segment
from tests.packet.pipeline import Pipeline
from tests.packet.raw import ends

TIMEOUT_S = 10_000
MARGIN_S = 1000
FOUR = range(4)


def backends_of(who: Addresses) -> list[str]:
    """Two here, two elsewhere."""
    return [who.pod, who.second_pod, who.remote_pod, who.remote_pod[:-1] + "5"]


def sticky(who: Addresses, timeout: int | None = TIMEOUT_S, **spec: Any) -> dict[str, Any]:
    config: dict[str, Any] = (
        {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": timeout}}} if timeout else {}
    )
    return service(who, sessionAffinity="ClientIP", **config, **spec)


def slice_of(who: Addresses, wanted: Iterable[int] = FOUR, **more: Any) -> dict[str, Any]:
    nodes = ["node1", "node1", "node2", "node2"]
    some = [endpoint(backends_of(who)[n], node=nodes[n]) for n in wanted]
    return endpoint_slice(who, some, **more)


@pytest.fixture
def ask(opened: Pipeline, who: Addresses) -> Callable[..., str]:
    """Who gets a client's next connection."""
    ports = iter(range(20000, 29999))

    def ask(client: str, place: tuple[str, int] | None = None, protocol: str = "TCP") -> str:
        flow = (client, next(ports), *(place or places(who)["external"]))
        seen = opened.run("from_uplink", bytes(segment(who, flow, protocol=protocol)))
        return ends(seen.packet).destination

    return ask


def others(who: Addresses, count: int = 40) -> list[str]:
    """Clients."""
    form = "203.0.113.{}" if who.version == 4 else "2001:db8:cafe::{}"
    return [form.format(number) for number in range(20, 20 + count)]


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
def test_a_client_keeps_its_endpoint_and_clients_differ(
    opened: Pipeline, who: Addresses, ask: Callable[..., str], protocol: str
) -> None:
    put(opened, sticky(who, protocol=protocol), slice_of(who, protocol=protocol))
    place = places(who)["external"]
    assert len({ask(who.client, place, protocol) for _ in range(30)}) == 1
    assert {ask(one, place, protocol) for one in others(who, 60)} == set(backends_of(who))


def test_without_affinity_it_does_not(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, service(who), slice_of(who))
    assert len({ask(who.client) for _ in range(60)}) == 4


def test_all_frontends_of_a_port_share_it(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, sticky(who), slice_of(who))
    for client in others(who, 10):
        assert len({ask(client, place) for place in places(who).values()}) == 1


def test_two_ports_do_not(opened: Pipeline, who: Addresses, ask: Callable[..., str]) -> None:
    ports = [
        {"name": name, "port": port, "protocol": "TCP"} for name, port in (("a", 80), ("b", 81))
    ]
    slice_ports = [{"name": name, "port": 8080, "protocol": "TCP"} for name in "ab"]
    put(opened, sticky(who, ports=ports), slice_of(who) | {"ports": slice_ports})
    address = places(who)["external"][0]
    clients = others(who)
    first, second, again = ({c: ask(c, (address, port)) for c in clients} for port in (80, 81, 80))
    assert first != second
    assert first == again


def test_it_ends_after_its_timeout_and_not_before(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, sticky(who), slice_of(who))
    before = {client: ask(client) for client in others(who)}
    opened.age(TIMEOUT_S - MARGIN_S)
    assert {client: ask(client) for client in before} == before
    opened.age(TIMEOUT_S - MARGIN_S)  # each connection has started it again
    assert {client: ask(client) for client in before} == before
    opened.age(TIMEOUT_S + MARGIN_S)
    assert {client: ask(client) for client in before} != before


def test_the_timeout_is_three_hours_if_none_is_given(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, sticky(who, None), slice_of(who))
    assert {entry.item.affinity_s for entry in opened._entries()} == {10800}
    assert len({ask(who.client) for _ in range(30)}) == 1


@pytest.mark.parametrize("how", ["gone", "unready", "stopped"])
def test_an_endpoint_that_is_gone_is_forgotten(
    opened: Pipeline, who: Addresses, ask: Callable[..., str], how: str
) -> None:
    put(opened, sticky(who), slice_of(who))
    had = ask(who.client)
    place = backends_of(who).index(had)
    rest = [n for n in FOUR if n != place]
    changed = slice_of(who, rest)
    if how != "gone":
        changed["endpoints"].append(endpoint(had, how))
    put(opened, changed)
    now = ask(who.client)
    assert now != had
    put(opened, slice_of(who))
    assert {ask(who.client) for _ in range(20)} == {now}


def test_an_endpoint_outside_of_the_list_is_passed_over(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    """Under the policy Local a client outside keeps to the endpoints of this node, whatever it had before."""
    put(opened, sticky(who), slice_of(who))
    had = {client: ask(client) for client in others(who)}
    put(opened, sticky(who, externalTrafficPolicy="Local"))
    now = {client: ask(client) for client in had}
    local = set(backends_of(who)[:2])
    assert set(now.values()) <= local
    assert all(now[client] == had[client] for client in had if had[client] in local)
    put(opened, sticky(who))
    assert {client: ask(client) for client in had} == now, "what was chosen anew is kept"


def test_it_is_switched_on_and_off_for_new_connections(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, service(who), slice_of(who))
    assert len({ask(who.client) for _ in range(60)}) == 4
    put(opened, sticky(who))
    assert len({ask(who.client) for _ in range(30)}) == 1
    put(opened, service(who))
    assert len({ask(who.client) for _ in range(60)}) == 4


def test_the_clients_address_counts_before_it_is_hidden(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    """Both are masqueraded to the node's address."""
    put(opened, sticky(who), slice_of(who, [2, 3]))
    got = {client: ask(client, (who.node, NODE_PORT)) for client in others(who)}
    assert len(set(got.values())) == 2
    assert {client: ask(client, (who.node, NODE_PORT)) for client in got} == got


def test_it_outlives_a_restart_of_the_agent(
    opened: Pipeline, who: Addresses, ask: Callable[..., str]
) -> None:
    put(opened, sticky(who), slice_of(who))
    before = {client: ask(client) for client in others(who)}
    assert opened.restart().writes == 0
    assert {client: ask(client) for client in before} == before


def test_pods_have_it_each_by_itself(opened: Pipeline, who: Addresses) -> None:
    put(opened, sticky(who), slice_of(who, [2, 3]))
    for pod in (who.pod, who.second_pod):
        got = set()
        for port in range(40000, 40030):
            packet = segment(who, (pod, port, who.service, PORT))
            got.add(ends(opened.run("from_pod", bytes(packet)).packet).destination)
        assert len(got) == 1
