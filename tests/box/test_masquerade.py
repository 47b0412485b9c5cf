# SPDX-License-Identifier: Apache-2.0
"""Pods reach a server outside with an address of their node, and the cluster with their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.box.process import wait_until
from kubypass_lab.box.steps_outside import PORT, server_outside
from kubypass_lab.box.wiring import ip_batch
from tests.box.clients import connected
from tests.box.conftest import GUIDE, HERE, Cluster, own_box
from tests.box.pings import OUTSIDE, ping

pytestmark = pytest.mark.xdist_group("masquerade")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
SECOND = {4: "192.168.1.71", 6: "fd00:c0a8:1::71"}
BITS = {4: 24, 6: 64}


@pytest.fixture(scope="module")
def home() -> Iterator[Cluster]:
    """A box with a server outside of the cluster."""
    with (
        own_box("msq", GUIDE / "cilium-config.yaml", HERE / "cluster.yaml") as box,
        server_outside(box),
    ):
        yield Cluster(box)


def seen(cluster: Cluster, pod: str, version: int, protocol: str = "TCP") -> str:
    """The address that the server outside sees."""
    answer = cluster.ask(pod, protocol, OUTSIDE[version], PORT)
    assert answer["pod"] == "outside"
    return answer["client"].rpartition(":")[0].strip("[]")


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_server_sees_the_node(home: Cluster, protocol: str, version: int, number: int) -> None:
    node = home.box.topology.node(f"node{number}").address(version)
    assert seen(home, f"pod{number}", version, protocol) == str(node)


@FAMILIES
@pytest.mark.parametrize("size", [56, 4000], ids=["short", "in fragments"])
def test_a_pod_pings_the_outside(home: Cluster, version: int, size: int) -> None:
    assert ping(home, "pod1", OUTSIDE[version], size) == f"reply {OUTSIDE[version].strip('[]')}"


@FAMILIES
def test_a_pod_sees_the_hops_on_its_way(home: Cluster, version: int) -> None:
    expired = {4: "error 11", 6: "error 3"}[version]
    node = home.box.topology.node("node1").address(version)
    fabric = next(g.ip for g in home.box.topology.gateways if g.version == version)
    assert ping(home, "pod1", OUTSIDE[version], ttl=1) == f"{expired} {node}"
    assert ping(home, "pod1", OUTSIDE[version], ttl=2) == f"{expired} {fabric}"


@FAMILIES
def test_the_cluster_sees_pods(home: Cluster, version: int) -> None:
    """By a Service, whose backends see who asks; on both nodes."""
    answers = [home.ask("pod1", "TCP", home.host(version, "echo"), 80) for _ in range(12)]
    clients = {answer["client"].rpartition(":")[0].strip("[]") for answer in answers}
    pod = next(p for p in home.pods("visitor") if p.node == home.box.topology.node("node1").name)
    assert clients <= set(pod.addresses)
    assert len({answer["node"] for answer in answers}) == 2


def test_the_status_says_so(home: Cluster) -> None:
    row = home.status("node1")["masquerading"]
    native = " ".join(map(str, home.box.topology.pod_cidrs))
    assert row["effective"] == f"BPF [eth0] {native} [IPv4: Enabled, IPv6: Enabled]"
    assert row["why"] == ""
    assert not home.problems("Masquerading")


@FAMILIES
def test_an_address_that_a_route_prefers_comes_and_goes(home: Cluster, version: int) -> None:
    """New connections have it while it is there; the datagrams of an old one get another when it has gone."""
    box = home.box
    node, old = box.paths.namespace(box.nodes[0].name), str(box.nodes[0].address(version))
    gateway = next(g.ip for g in box.topology.gateways if g.version == version)
    new, there = SECOND[version], OUTSIDE[version].strip("[]")
    nodad = " nodad" if version == 6 else ""
    ip_batch(node, [f"addr add {new}/{BITS[version]} dev eth0{nodad}"])
    ip_batch(node, [f"route add {there} via {gateway} src {new}"])
    assert wait_until(lambda: seen(home, "pod1", version) == new)
    with connected(home, "pod1", "UDP", there, PORT) as old_one:
        assert old_one.hear() == "outside"
        ip_batch(node, [f"route delete {there} via {gateway} src {new}"])
        ip_batch(node, [f"addr delete {new}/{BITS[version]} dev eth0"])
        assert wait_until(lambda: old_one.ask("ask") == "outside")
    assert seen(home, "pod1", version) == old
    assert wait_until(lambda: home.status("node1")["masquerading"]["lost_sources"] > 0)
