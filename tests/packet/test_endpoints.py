# SPDX-License-Identifier: Apache-2.0
"""Which endpoints new connections get (hints, duplicates, slices that disagree), and who may connect. From objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubypass.model.verdict import Verdict
from tests.packet.objects import (
    EXTERNAL,
    NODE_PORT,
    endpoint,
    endpoint_slice,
    frontends,
    put,
    service,
)
from tests.packet.packets import V4, V6, Addresses, segment
from tests.packet.pipeline import Pipeline
from tests.packet.policies import OTHER_ADDRESS, connect, draw
from tests.packet.raw import ends

ZONE = "topology.kubernetes.io/zone"


def node_in(zone: str | None) -> dict[str, Any]:
    labels = {ZONE: zone} if zone else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1", "labels": labels}}


def zones(*names: str) -> dict[str, Any]:
    return {"hints": {"forZones": [{"name": name} for name in names]}}


def nodes(*names: str, zone: str = "a") -> dict[str, Any]:
    return {"hints": {"forNodes": [{"name": name} for name in names], **zones(zone)["hints"]}}


HINTS = [
    # the node's zone; hints of A (here), B and C (elsewhere) -> who gets connections
    ("a", zones("a"), zones("b"), zones("b"), "A"),
    ("a", zones("b"), zones("a"), zones("a", "b"), "BC"),
    ("a", zones("b"), zones("b"), zones("c"), "ABC"),  # none is for us
    ("a", zones("a"), zones("b"), {}, "ABC"),  # one does not say
    (None, zones("a"), zones("b"), zones("b"), "ABC"),  # the node does not say
    ("a", nodes("node1"), nodes("node2"), nodes("node2"), "A"),
    ("a", nodes("node2"), nodes("node1"), nodes("node1", "node2"), "BC"),
    ("a", nodes("node2", zone="b"), nodes("node3"), nodes("node2", zone="b"), "B"),  # then zones
    ("a", nodes("node1"), nodes("node2"), zones("b"), "AB"),  # C has no node: zones
    ("a", nodes("node1"), nodes("node2"), {}, "ABC"),
]


@pytest.mark.parametrize(("zone", "first", "second", "third", "letters"), HINTS)
@pytest.mark.parametrize("kind", ["cluster", "node"])
def test_hints(
    opened: Pipeline,
    who: Addresses,
    zone: str | None,
    first: dict[str, Any],
    second: dict[str, Any],
    third: dict[str, Any],
    letters: str,
    kind: str,
) -> None:
    third_pod = who.remote_pod[:-1] + "5"
    by_letter = {"A": who.second_pod, "B": who.remote_pod, "C": third_pod}
    backends = [
        endpoint(who.second_pod, **first),
        endpoint(who.remote_pod, node="node2", **second),
        endpoint(third_pod, node="node3", **third),
    ]
    put(opened, node_in(zone), service(who), endpoint_slice(who, backends))
    masquerade = kind == "node"
    got = {
        connect(opened, who, "pod", frontends(who)[kind], "TCP", port, masquerade)
        for port in range(40000, 40060)
    }
    assert got == {by_letter[letter] for letter in letters}


def test_only_ready_endpoints_vote_on_hints(opened: Pipeline, who: Addresses) -> None:
    backends = [
        endpoint(who.second_pod, **zones("a")),
        endpoint(who.remote_pod, node="node2", **zones("b")),
        endpoint(who.remote_pod[:-1] + "5", "ending", "node2"),
    ]
    put(opened, node_in("a"), service(who), endpoint_slice(who, backends))
    assert draw(opened, who, "pod", frontends(who)["cluster"]) == {who.second_pod}


def test_hints_do_not_matter_among_ending_endpoints_and_in_the_local_list(
    opened: Pipeline, who: Addresses
) -> None:
    ending = [
        endpoint(who.second_pod, "ending", **zones("b")),
        endpoint(who.remote_pod, "ending", "node2", **zones("a")),
    ]
    put(opened, node_in("a"), service(who), endpoint_slice(who, ending))
    frontend = frontends(who)["cluster"]
    assert draw(opened, who, "pod", frontend) == {who.second_pod, who.remote_pod}
    put(
        opened,
        service(who, internalTrafficPolicy="Local"),
        endpoint_slice(
            who,
            [
                endpoint(who.second_pod, **zones("b")),
                endpoint(who.remote_pod, node="x", **zones("a")),
            ],
        ),
    )
    opened.lab.expire_flows()
    assert draw(opened, who, "pod", frontend) == {who.second_pod}


def test_a_changed_zone_counts(opened: Pipeline, who: Addresses) -> None:
    backends = [
        endpoint(who.second_pod, **zones("a")),
        endpoint(who.remote_pod, node="x", **zones("b")),
    ]
    put(opened, node_in("a"), service(who), endpoint_slice(who, backends))
    assert draw(opened, who, "pod", frontends(who)["cluster"]) == {who.second_pod}
    put(opened, node_in("b"))
    opened.lab.expire_flows()
    assert draw(opened, who, "pod", frontends(who)["cluster"]) == {who.remote_pod}


def test_of_duplicates_the_local_one_counts(opened: Pipeline, who: Addresses) -> None:
    local = endpoint_slice(who, [endpoint(who.second_pod)], name="web-2")
    other = endpoint_slice(who, [endpoint(who.second_pod, node="node2")], name="web-1")
    put(opened, service(who, internalTrafficPolicy="Local"), other, local)
    assert draw(opened, who, "pod", frontends(who)["cluster"]) == {who.second_pod}


def test_an_endpoint_without_a_node_is_remote(opened: Pipeline, who: Addresses) -> None:
    one = endpoint_slice(who, [endpoint(who.second_pod, node=None)])
    put(opened, service(who, internalTrafficPolicy="Local"), one)
    assert draw(opened, who, "pod", frontends(who)["cluster"]) == {"drop"}


def test_slices_have_numbers_of_their_own_for_a_port(opened: Pipeline, who: Addresses) -> None:
    other = endpoint_slice(who, [endpoint(who.remote_pod, node="x")], name="web-2")
    other["ports"] = [{"name": "", "port": 9090}, {"name": "", "port": 7, "protocol": "UDP"}]
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]), other)
    got = set()
    for port in range(40000, 40040):
        packet = segment(who, (who.pod, port, *frontends(who)["cluster"]))
        seen = ends(opened.run("from_pod", bytes(packet)).packet)
        got.add((seen.destination, seen.destination_port))
    assert got == {(who.second_pod, 8080), (who.remote_pod, 9090)}


def test_addresses_with_leading_zeros_are_decimal(opened: Pipeline) -> None:
    sloppy = service(V4, clusterIP="010.233.030.047", clusterIPs=["010.233.030.047"])
    put(opened, sloppy, endpoint_slice(V4, [endpoint("010.233.064.015")]))
    assert draw(opened, V4, "pod", frontends(V4)["cluster"]) == {V4.second_pod}


NODE_PORTS = [
    # settings -> on the primary address, on another, of IPv4; the same of IPv6
    ("interface", (True, True), (True, True)),
    ("hidden", (True, False), (True, False)),  # primary
    ("silent", (False, False), (True, True)),  # 10.0.0.0/8: a family without any has all
]


@pytest.mark.parametrize(("name", "ipv4", "ipv6"), NODE_PORTS)
@pytest.mark.parametrize("client", ["pod", "outside"])
def test_where_node_ports_answer(
    start: Callable[[str], Pipeline],
    who: Addresses,
    name: str,
    ipv4: tuple[bool, bool],
    ipv6: tuple[bool, bool],
    client: str,
) -> None:
    pipeline = start(name)
    put(pipeline, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    wanted = ipv4 if who.version == 4 else ipv6
    for address, answers in zip((who.node, OTHER_ADDRESS[who.version]), wanted, strict=True):
        source, hook = (who.pod, "from_pod") if client == "pod" else (who.client, "from_uplink")
        packet = bytes(segment(who, (source, 40000, address, NODE_PORT)))
        seen = pipeline.run(hook, packet)
        if answers:
            assert seen.verdict == Verdict.TO_POD
        else:
            assert (seen.verdict, seen.packet) == (Verdict.PASS, packet)


def test_both_families_of_one_service_are_apart(opened: Pipeline) -> None:
    item = service(V4, ipFamilies=["IPv6", "IPv4"], clusterIPs=[V6.service, V4.service])
    put(opened, item, endpoint_slice(V6, [endpoint(V6.second_pod)], name="six"))
    assert draw(opened, V6, "pod", frontends(V6)["cluster"]) == {V6.second_pod}
    assert draw(opened, V4, "pod", frontends(V4)["cluster"]) == {"reject"}


TURNED_OFF = [
    {"clusterIP": "None", "clusterIPs": ["None"]},
    {"type": "ExternalName"},
    {"labels": "service.kubernetes.io/service-proxy-name"},
    {"labels": "service.kubernetes.io/headless"},
]


@pytest.mark.parametrize("change", TURNED_OFF)
def test_a_service_that_is_not_ours_and_back(
    opened: Pipeline, who: Addresses, change: dict[str, Any]
) -> None:
    frontend = frontends(who)["external"]
    put(opened, service(who), endpoint_slice(who, [endpoint(who.second_pod)]))
    assert connect(opened, who, "pod", frontend, "TCP", 40000, True) == who.second_pod
    other = service(who, **{key: value for key, value in change.items() if key != "labels"})
    if "labels" in change:
        other["metadata"]["labels"] = {change["labels"]: ""}
    put(opened, other)
    packet = bytes(segment(who, (who.pod, 40001, *frontend)))
    seen = opened.run("from_pod", packet)
    assert ends(seen.packet).destination == EXTERNAL[who.version]
    put(opened, service(who))
    assert connect(opened, who, "pod", frontend, "TCP", 40002, True) == who.second_pod
