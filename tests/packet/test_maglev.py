# SPDX-License-Identifier: Apache-2.0
"""Maglev, from objects to whole packets: which backend a connection gets is known before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from kubypass.datapath.config import datapath_config
from kubypass.datapath.loader import load_programs
from kubypass.kernel.features import probe_features
from kubypass.model.verdict import Verdict
from tests.packet.objects import TARGET, endpoint, endpoint_slice, frontends, put, service
from tests.packet.packets import Addresses, segment
from tests.packet.pipeline import TO_NETWORK_MACS, TO_POD_MACS, Pipeline
from tests.packet.raw import Ends, ends
from tests.packet.reference_maglev import choose, number
from tests.packet.reference_objects import canonical

SEED, CELLS = b"seven dwarfs", 1021
EXTERNAL = ["node", "external", "balancer"]
PORTS = range(40000, 40032)
Start = Callable[[str], Pipeline]
MAGLEV = {"service.cilium.io/lb-algorithm": "maglev"}


@pytest.fixture
def node(start: Start) -> Pipeline:
    return start("maglev")


@pytest.fixture(params=["TCP", "UDP", "SCTP"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


def remote(who: Addresses, count: int) -> list[str]:
    return [canonical(f"{who.remote_pod[:-2]}{20 + at}") for at in range(count)]


def pods(who: Addresses) -> list[str]:
    """Two here, five elsewhere."""
    return [who.pod, who.second_pod, *remote(who, 5)]


def slice_of(who: Addresses, some: Iterable[str], **more: Any) -> dict[str, Any]:
    here = (who.pod, who.second_pod)
    made = [endpoint(one, node="node1" if one in here else "node2") for one in some]
    return endpoint_slice(who, made, **more)


def annotated(item: dict[str, Any], **annotations: str) -> dict[str, Any]:
    metadata = {**item["metadata"], "annotations": annotations}
    return {**item, "metadata": metadata}


def foreseen(
    asked: tuple[str, int, str, int], found: dict[str, int], protocol: str, *, sticky: bool = False
) -> str:
    """The address of the backend; `found` are those of the list, with their weights."""
    chance = number(SEED, Ends(*asked), protocol, source_alone=sticky)
    weights = {(canonical(one), TARGET): weight for one, weight in found.items()}
    return choose(SEED, CELLS, weights, protocol, chance)[0]


def ask(
    pipeline: Pipeline, who: Addresses, asked: tuple[str, int, str, int], protocol: str = "TCP",
    *, flags: str = "S", hook: str = "from_uplink",
) -> str:  # fmt: skip
    """Who gets a connection."""
    seen = pipeline.run(hook, bytes(segment(who, asked, protocol=protocol, flags=flags)))
    assert seen.verdict < Verdict.DROP, seen.verdict.name
    return ends(seen.packet).destination


def every(pipeline: Pipeline, who: Addresses, kind: str, protocol: str = "TCP") -> list[str]:
    return [
        ask(pipeline, who, (who.client, port, *frontends(who)[kind]), protocol) for port in PORTS
    ]


def expected(who: Addresses, kind: str, found: Iterable[str], protocol: str = "TCP") -> list[str]:
    weights = dict.fromkeys(found, 1)
    return [
        foreseen((who.client, port, *frontends(who)[kind]), weights, protocol) for port in PORTS
    ]


@pytest.mark.parametrize("kind", EXTERNAL)
def test_the_connection_decides_and_the_packet_is_whole(
    node: Pipeline, who: Addresses, protocol: str, kind: str
) -> None:
    put(node, service(who, protocol=protocol), slice_of(who, pods(who), protocol=protocol))
    got = set()
    for port in PORTS:
        asked = (who.client, port, *frontends(who)[kind])
        seen = node.run("from_uplink", bytes(segment(who, asked, protocol=protocol)))
        backend = foreseen(asked, dict.fromkeys(pods(who), 1), protocol)
        here = backend in (who.pod, who.second_pod)
        destination, from_mac = TO_POD_MACS if here else TO_NETWORK_MACS
        made = segment(
            who, (who.node, port, backend, TARGET), protocol=protocol, smac=from_mac, dmac=destination, ttl=63
        )  # fmt: skip
        assert seen.packet == bytes(made)
        got.add(backend)
    assert len(got) >= 5


def test_clients_of_the_cluster_ip_are_not_foreseen(node: Pipeline, who: Addresses) -> None:
    put(node, service(who), slice_of(who, pods(who)))
    assert every(node, who, "cluster") != expected(who, "cluster", pods(who))


def test_an_outside_client_of_a_local_policy_has_the_local_list_s_table(
    node: Pipeline, who: Addresses, protocol: str
) -> None:
    local = service(who, protocol=protocol, externalTrafficPolicy="Local")
    first = canonical(who.remote_pod.replace("65", "63"))  # before those of this node in every list
    put(node, local, slice_of(who, [first, *pods(who)], protocol=protocol))
    here = (who.pod, who.second_pod)
    assert every(node, who, "balancer", protocol) == expected(who, "balancer", here, protocol)
    asked = [(who.pod, port, *frontends(who)["balancer"]) for port in PORTS]
    some = dict.fromkeys([first, *pods(who)], 1)
    got = [ask(node, who, one, protocol, hook="from_pod") for one in asked]
    assert got == [foreseen(one, some, protocol) for one in asked], "a pod has the Cluster list's"


def test_terminating_endpoints_are_a_list_of_their_own(node: Pipeline, who: Addresses) -> None:
    states = ["ending", "unready", "ending", "stopped", "ending"]
    some = [
        endpoint(one, state, "node2") for one, state in zip(remote(who, 5), states, strict=True)
    ]
    put(node, service(who), endpoint_slice(who, some))
    ending = remote(who, 5)[::2]
    assert every(node, who, "node") == expected(who, "node", ending)


def test_with_affinity_the_client_s_address_decides(
    node: Pipeline, who: Addresses, protocol: str
) -> None:
    sticky = service(who, protocol=protocol, sessionAffinity="ClientIP")
    put(node, sticky, slice_of(who, pods(who), protocol=protocol))
    weights = dict.fromkeys(pods(who), 1)
    form = "203.0.113.{}" if who.version == 4 else "2001:db8:cafe::{}"
    for client in (form.format(host) for host in range(20, 44)):
        for port, kind in enumerate(EXTERNAL, 40000):
            asked = (client, port, *frontends(who)[kind])
            backend = ask(node, who, asked, protocol)
            assert backend == foreseen(asked, weights, protocol, sticky=True)
            node.age(20_000)


def test_what_a_client_remembers_comes_before_its_table(node: Pipeline, who: Addresses) -> None:
    """The table of more endpoints may send the client elsewhere; its affinity does not."""
    put(node, service(who, sessionAffinity="ClientIP"), slice_of(who, remote(who, 2)))
    form = "203.0.113.{}" if who.version == 4 else "2001:db8:cafe::{}"
    clients = [form.format(host) for host in range(20, 44)]
    before = [ask(node, who, (one, 40000, *frontends(who)["node"])) for one in clients]
    put(node, slice_of(who, remote(who, 5)))
    after = [ask(node, who, (one, 40001, *frontends(who)["node"])) for one in clients]
    assert before == after
    node.age(20_000)
    assert before != [ask(node, who, (one, 40002, *frontends(who)["node"])) for one in clients]


def test_weights_are_shares_and_zero_is_none(node: Pipeline, who: Addresses, protocol: str) -> None:
    first, second, third = remote(who, 6)[:2], remote(who, 6)[2:4], remote(who, 6)[4:]
    slices = [
        annotated(slice_of(who, some, name=f"web-{weight}", protocol=protocol), **{"service.cilium.io/weight": weight})
        for some, weight in ((first, "1"), (second, "5"), (third, "0"))
    ]  # fmt: skip
    put(node, service(who, protocol=protocol), *slices)
    weights = {**dict.fromkeys(first, 1), **dict.fromkeys(second, 5)}
    asked = [(who.client, port, *frontends(who)["external"]) for port in PORTS]
    got = [ask(node, who, one, protocol) for one in asked]
    assert got == [foreseen(one, weights, protocol) for one in asked]
    assert sum(one in second for one in got) > sum(one in first for one in got)
    put(node, slices[2], annotated(slices[0], **{"service.cilium.io/weight": "0"}))
    put(node, annotated(slices[1], **{"service.cilium.io/weight": "0"}))
    seen = node.run(
        "from_uplink", bytes(segment(who, (who.client, 50000, *frontends(who)["external"])))
    )
    assert protocol != "TCP" or seen.verdict == Verdict.REJECT_NO_BACKEND


def events(who: Addresses) -> list[dict[str, Any]]:
    """The same cluster in the end, however they are put in order."""
    some = remote(who, 8)
    return [
        service(who),
        slice_of(who, some[:3], name="web-1"),
        slice_of(who, some[3:], name="web-2"),
    ]


def test_two_nodes_that_heard_in_different_orders_choose_alike(
    start: Start, who: Addresses
) -> None:
    chosen = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        node = start("maglev")
        address = f"{who.service[:-1]}9"
        other = service(who, clusterIP=address, clusterIPs=[address], externalIPs=[])
        other["metadata"] = {"name": "other", "namespace": "default"}
        other["spec"]["ports"] = [{"port": 80}]
        other["status"] = {}
        for at in order:
            put(node, other, slice_of(who, pods(who)[: at + 2], name="web-2"))
            put(node, events(who)[at])
        put(node, *events(who))
        chosen.append(every(node, who, "node") + every(node, who, "balancer"))
    assert chosen[0] == chosen[1] == chosen[2]
    assert len(set(chosen[0])) == 8


@pytest.mark.parametrize("sticky", [False, True])
def test_a_connection_that_another_node_takes_over_stays_with_its_backend(
    start: Start, who: Addresses, sticky: bool
) -> None:
    """The network moves a flow in its middle: the other node has no entry for it, and other secrets."""
    affinity = {"sessionAffinity": "ClientIP"} if sticky else {}
    objects = [service(who, **affinity), slice_of(who, remote(who, 7))]
    node = start("maglev")
    put(node, *objects)
    asked = [(who.client, port, *frontends(who)["balancer"]) for port in PORTS]
    had = [ask(node, who, one) for one in asked]
    other = start("maglev")
    constants = datapath_config(other.settings, probe_features(), ())
    lab = replace(other.lab, programs=dict(other.lab.programs))
    lab.programs = load_programs(
        ("pod", "host"), lab.maps, {},
        lambda opened: opened.set_rodata(constants._replace(seed=constants.seed ^ 1).pack()),
    )  # fmt: skip
    other.lab = lab
    put(other, *reversed(objects))
    assert had == [ask(other, who, one, flags="A") for one in asked]


def test_connections_go_on_while_their_table_comes_and_goes(
    start: Start, who: Addresses, protocol: str
) -> None:
    node = start("by annotation")
    plain = service(who, protocol=protocol)
    put(node, plain, slice_of(who, pods(who), protocol=protocol))
    had = every(node, who, "node", protocol)
    for item in (annotated(plain, **MAGLEV), plain):
        put(node, item)
        assert every(node, who, "node", protocol) == had


@pytest.mark.parametrize(
    ("settings", "word", "by_table"),
    [
        ("by annotation", None, False),
        ("by annotation", "maglev", True),
        ("by annotation", "Maglev", True),
        ("by annotation", "random", False),
        ("by annotation", "roundrobin", False),
        ("maglev", "random", False),
        ("maglev", "roundrobin", True),
        ("interface", "maglev", False),
    ],
)
def test_who_says_how_a_service_selects(
    start: Start, who: Addresses, settings: str, word: str | None, by_table: bool
) -> None:
    node = start(settings)
    words = {"service.cilium.io/lb-algorithm": word} if word else {}
    put(node, annotated(service(who), **words), slice_of(who, pods(who)))
    assert (every(node, who, "node") == expected(who, "node", pods(who))) is by_table


def test_one_backend_less_moves_few_of_the_others(node: Pipeline, who: Addresses) -> None:
    all_ = remote(who, 20)
    put(node, service(who), slice_of(who, all_))
    sources = [(who.client, port, *frontends(who)["node"]) for port in range(20000, 20600)]
    before = [ask(node, who, one) for one in sources]
    put(node, slice_of(who, all_[:7] + all_[8:]))
    node.lab.forget_flows()
    after = [ask(node, who, one) for one in sources]
    others = [one == two for one, two in zip(before, after, strict=True) if one != all_[7]]
    assert others.count(False) < 0.05 * len(others)
