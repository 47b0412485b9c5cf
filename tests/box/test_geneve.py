# SPDX-License-Identifier: Apache-2.0
"""DSR in Geneve with real sockets, through a network that lets nothing else of clients through."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import HERE, REPOSITORY, Cluster, guide_settings, own_box
from tests.box.direct_service import CLIENT_ADDRESS, SERVICE, VIP, clashes, peers, seen_by_all
from tests.box.exchanges import exchange

pytestmark = pytest.mark.xdist_group("geneve")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["TCP", "UDP"])
STRICT = """
table inet strict {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname nodes oifname nodes ip saddr 203.0.113.0/24 drop
    iifname nodes oifname nodes ip6 saddr 2001:db8:cafe::/64 drop
  }
}
"""
"""A network whose routers drop what has a source that its sender does not own, as clouds do."""
NO_OPTIONS = """
table inet options {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname nodes oifname nodes ip hdrlength > 5 drop
    iifname nodes oifname nodes exthdr dst exists drop
  }
}
"""


def on_router(cluster: Cluster, *command: str) -> None:
    """Runs a command on the router between the nodes."""
    namespace = cluster.box.paths.namespace(FABRIC)
    subprocess.run(["ip", "netns", "exec", namespace, *command], check=True)


@contextmanager
def router_rules(cluster: Cluster, table: str, rules: str) -> Iterator[None]:
    """The router between the nodes has these rules."""
    on_router(cluster, "nft", rules)
    try:
        yield
    finally:
        on_router(cluster, "nft", f"delete table inet {table}")


def through_a_router(cluster: Cluster, mtu: int) -> None:
    """Nodes reach each other by the gateway, behind which less fits than they know."""
    fabric = cluster.box.paths.namespace(FABRIC)
    for name in ("all", "nodes"):
        on_router(cluster, "sysctl", "-q", "-w", f"net.ipv4.conf.{name}.send_redirects=0")
    one, two = cluster.box.topology.node("node1"), cluster.box.topology.node("node2")
    for here, there in ((one, two), (two, one)):
        for version in (4, 6):
            gateway = {int(each.version): each.ip for each in cluster.box.topology.gateways}[
                version
            ]
            to = there.address(version)
            ip_batch(
                cluster.box.paths.namespace(here.name), [f"route add {to} via {gateway} dev eth0"]
            )
            ip_batch(fabric, [f"route add {to} dev nodes mtu lock {mtu}"])


def told(cluster: Cluster, dispatch: str, mtu: int) -> None:
    """Waits until both nodes have found out this of each other, in both families."""

    def is_found() -> bool:
        found = [peer for node in ("node1", "node2") for peer in peers(cluster, node)]
        words = {(peer["dispatch"], peer["mtu"]) for peer in found}
        return len(found) >= 4 and words == {(dispatch, mtu)}

    assert wait_until(is_found, DEADLINE_S), peers(cluster, "node1")


@contextmanager
def made(kind: str, directory: Path, dispatch: str) -> Iterator[Cluster]:
    settings = guide_settings(directory, f"bpf-lb-mode: dsr\nbpf-lb-dsr-dispatch: {dispatch}")
    with own_box(kind, settings, HERE / "cluster.yaml") as box:
        cluster = Cluster(box)
        cluster.apply(SERVICE.format(annotations=""))
        yield cluster


def shows_the_client(cluster: Cluster, version: int, protocol: str, to: tuple[str, int]) -> None:
    """Pods of both nodes see the client's own address."""
    before = clashes(cluster)
    seen = set().union(*seen_by_all(cluster, protocol, to).values())
    if clashes(cluster) > before:  # a port that the client had for another frontend a moment ago
        seen.discard(cluster.host(version, "node1").strip("[]"))
    assert seen == {CLIENT_ADDRESS[version]}


@pytest.fixture(scope="module")
def geneve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with made("gnv", tmp_path_factory.mktemp("geneve"), "geneve") as cluster:
        told(cluster, "geneve", 1500)
        yield cluster


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("frontend", ["node port", "load balancer"])
def test_pods_see_the_client(geneve: Cluster, version: int, protocol: str, frontend: str) -> None:
    to = (geneve.host(version, "node1"), geneve.node_port("echo", protocol))
    if frontend == "load balancer":
        address = f"[{VIP[6]}]" if version == 6 else VIP[4]
        to = (address, 8000 if protocol == "TCP" else 53)
    with router_rules(geneve, "strict", STRICT):
        shows_the_client(geneve, version, protocol, to)


@FAMILIES
@pytest.mark.parametrize("size", [1000, 20_000, 60_000])
def test_large_uploads(geneve: Cluster, version: int, size: int) -> None:
    to = (geneve.host(version, "node1"), geneve.node_port("echo"))
    with router_rules(geneve, "strict", STRICT):
        found = {exchange(geneve, CLIENT, "SOCK_STREAM", to, size) for _ in range(12)}
    assert len(found) == 2


@FAMILIES
@pytest.mark.parametrize("size", [1200, 3000, 9000])
def test_large_datagrams(geneve: Cluster, version: int, size: int) -> None:
    to = (geneve.host(version, "node1"), geneve.node_port("echo", "UDP"))
    found = {exchange(geneve, CLIENT, "SOCK_DGRAM", to, size) for _ in range(20)}
    assert len(found) == 2


@FAMILIES
def test_datagrams_that_are_cut_from_one(geneve: Cluster, version: int) -> None:
    """QUIC sends them so (UDP_SEGMENT): the kernel cuts them later."""
    to = geneve.host(version, "node1").strip("[]"), str(geneve.node_port("echo", "UDP"))
    python = (REPOSITORY / ".venv" / "bin" / "python").as_posix()
    script = (HERE / "send_segments.py").as_posix()
    found = geneve.run(CLIENT, python, script, *to, "1100", "4", "20").splitlines()
    assert len({line.split()[0] for line in found}) == 2, found


def test_the_status_tells_of_it(geneve: Cluster) -> None:
    mode = geneve.status("node1")["forwarding_mode"]
    assert mode["effective"] == "DSR (DSR Dispatch Mode: geneve)"
    assert not geneve.problems("DSR")


def uploads(cluster: Cluster, version: int) -> None:
    """Large ones arrive at both nodes, whose pods see the client."""
    to = (cluster.host(version, "node1"), cluster.node_port("echo"))
    assert len({exchange(cluster, CLIENT, "SOCK_STREAM", to, 60_000) for _ in range(12)}) == 2
    shows_the_client(cluster, version, "TCP", to)


def test_the_dispatch_that_arrives_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A router between the nodes takes less than they know, and drops options at first."""
    with made("gna", tmp_path_factory.mktemp("auto"), "auto") as cluster:
        through_a_router(cluster, 1400)
        with router_rules(cluster, "options", NO_OPTIONS):
            told(cluster, "geneve", 1400)
            with router_rules(cluster, "strict", STRICT):
                uploads(cluster, 4)
                uploads(cluster, 6)
        told(cluster, "opt", 1400)
        uploads(cluster, 4)
