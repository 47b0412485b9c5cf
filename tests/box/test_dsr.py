# SPDX-License-Identifier: Apache-2.0
"""DSR with real sockets: a client outside keeps its address towards the pods of every node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from tests.box.conftest import HERE, Cluster, guide_settings, own_box
from tests.box.direct_service import CLIENT_ADDRESS, SERVICE, VIP, clashes, peers, seen_by_all
from tests.box.exchanges import exchange

pytestmark = pytest.mark.xdist_group("dsr")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["TCP", "UDP"])


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    more = 'bpf-lb-mode: dsr\nbpf-lb-dsr-dispatch: auto\nbpf-lb-mode-annotation: "true"'
    settings = guide_settings(tmp_path_factory.mktemp("dsr"), more)
    with own_box("dsr", settings, HERE / "cluster.yaml") as box:
        cluster = Cluster(box)
        cluster.apply(SERVICE.format(annotations=""))
        assert wait_until(lambda: knows_all(cluster), DEADLINE_S), peers(cluster, "node1")
        yield cluster


def knows_all(cluster: Cluster) -> bool:
    found = [peer for node in ("node1", "node2") for peer in peers(cluster, node)]
    return len(found) >= 4 and all(peer["dispatch"] == "opt" for peer in found)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("frontend", ["node port", "load balancer"])
def test_pods_see_the_client(direct: Cluster, version: int, protocol: str, frontend: str) -> None:
    to = (direct.host(version, "node1"), direct.node_port("echo", protocol))
    if frontend == "load balancer":
        address = f"[{VIP[6]}]" if version == 6 else VIP[4]
        to = (address, 8000 if protocol == "TCP" else 53)
    before = clashes(direct)
    seen = set().union(*seen_by_all(direct, protocol, to).values())
    if clashes(direct) > before:  # a port that the client had for the other frontend a moment ago
        seen.discard(direct.host(version, "node1").strip("[]"))
    assert seen == {CLIENT_ADDRESS[version]}


@FAMILIES
@pytest.mark.parametrize("size", [1000, 20_000, 60_000])
def test_large_uploads(direct: Cluster, version: int, size: int) -> None:
    to = (direct.host(version, "node1"), direct.node_port("echo"))
    found = {exchange(direct, CLIENT, "SOCK_STREAM", to, size) for _ in range(12)}
    assert len(found) == 2


@FAMILIES
@pytest.mark.parametrize("size", [1200, 3000, 9000])
def test_large_datagrams(direct: Cluster, version: int, size: int) -> None:
    to = (direct.host(version, "node1"), direct.node_port("echo", "UDP"))
    found = {exchange(direct, CLIENT, "SOCK_DGRAM", to, size) for _ in range(20)}
    assert len(found) == 2


@FAMILIES
def test_an_annotation_keeps_a_service_masqueraded(direct: Cluster, version: int) -> None:
    to = (f"[{VIP[6]}]" if version == 6 else VIP[4], 8000)
    client = CLIENT_ADDRESS[version]
    direct.apply(SERVICE.format(annotations="service.cilium.io/forwarding-mode: snat"))
    try:
        found: dict[str, set[str]] = {}

        def hidden() -> bool:
            found.update(seen_by_all(direct, "TCP", to))
            return any(client not in seen for seen in found.values())

        assert wait_until(hidden, DEADLINE_S), found
    finally:
        direct.apply(SERVICE.format(annotations=""))


def test_the_status_tells_of_it(direct: Cluster) -> None:
    mode = direct.status("node1")["forwarding_mode"]
    assert mode["effective"] == "DSR (DSR Dispatch Mode: auto), by annotation of each Service"
    for peer in mode["peers"]:
        assert (peer["dispatch"], peer["mtu"]) == ("opt", 1500), peer
    assert not direct.problems("DSR")
