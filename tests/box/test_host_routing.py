# SPDX-License-Identifier: Apache-2.0
"""Legacy host routing below a stateful host firewall: netfilter sees both directions of each connection as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.steps_outside import PORT as OUTSIDE_PORT
from kubypass_lab.box.topology import CLIENT_ADDRESSES
from tests.box import firewall
from tests.box.conftest import Cluster
from tests.box.exchanges import exchange
from tests.box.forwarding_scene import forwarding_scene
from tests.box.narrow_ways import narrow
from tests.box.pings import OUTSIDE, ping
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port, Service
from tests.box.scene_rows import Row

pytestmark = pytest.mark.xdist_group("host-routing")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
NODES = ("node1", "node2")
SETTINGS = 'enable-host-legacy-routing: "true"'
WAYS = ("cluster", "node1", "node2", "external1", "external2")
ROWS: list[Row] = [
    *((host, to, ALL) for host in ("client", "pod1", "a1") for to in WAYS),
    *(("stray2", to, ALL) for to in ("cluster", "node1", "external1")),
]
"""`a1` is one of the servers: some of its connections are with itself."""


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Packets are translated one by one, forwarded by the stack, and judged by a firewall of each node."""
    directory = tmp_path_factory.mktemp("legacy")
    with forwarding_scene("hrt", directory, SETTINGS) as scene:
        firewall.set_up(scene.box)
        yield scene


@contextmanager
def judged(scene: Scene) -> Iterator[None]:
    """The firewalls see connections, and no packet whose connection they do not know."""
    before = [firewall.counted(scene.box, node) for node in NODES]
    yield
    for node, earlier in zip(NODES, before, strict=True):
        now = firewall.counted(scene.box, node)
        grown = {name: now[name] - earlier[name] for name in now}
        assert grown["invalid"] == grown["dropped"] == 0, (node, grown)
        assert grown["new"] > 0, (node, grown)
        assert grown["established"] > 0, (node, grown)


def everywhere(scene: Scene, port: Port, endpoints: tuple[str, ...] = ()) -> Service:
    """A service with all kinds of frontends."""
    service = scene.service(port, node_ports=True)
    addresses = [service.external(v, node) for v in (4, 6) for node in NODES]
    service = service.with_spec(externalIPs=addresses)
    return scene.put(service, [Endpoint(one) for one in endpoints or sorted(ALL)])


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_every_way_to_a_service(legacy: Scene, protocol: str) -> None:
    with judged(legacy):
        legacy.check(everywhere(legacy, Port(80, 8080, protocol)), ROWS)
    assert all(firewall.tracked(legacy, node) for node in NODES)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_what_netfilter_sees(legacy: Scene, protocol: str) -> None:
    """The client and the server themselves, in both directions, though each sees an address of the node or service."""
    service = everywhere(legacy, Port(80, 8080, protocol), ("a2",))
    for version in (4, 6):
        client = CLIENT_ADDRESSES[version == 6].partition("/")[0]
        server, word = legacy.address("a2", version), "ip" if version == 4 else "ip6"
        with firewall.watched(legacy.box, "node1", {
            "there": f"{word} saddr {client} {word} daddr {server}",
            "back": f"{word} saddr {server} {word} daddr {client}",
            "other": f"{word} saddr {legacy.address('node1', version)}",
        }) as seen:  # fmt: skip
            (answer,) = legacy.ask(service, "client", "node1", version)
            assert answer["pod"] == "a2"
            assert str(answer["client"]).startswith((f"{legacy.address('node1', version)}:", "["))
            found = seen()
        assert found["there"] > 0, found
        assert found["back"] > 0, found
        assert found["other"] == 0, found


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_pods_reach_the_outside(legacy: Scene, version: int, protocol: str) -> None:
    with judged(legacy):
        for pod, node in (("pod1", "node1"), ("pod2", "node2")):
            address = OUTSIDE[version].strip("[]")
            (answer,) = legacy.call(pod, address, OUTSIDE_PORT, protocol)
            seen = str(answer["client"]).rpartition(":")[0].strip("[]")
            assert seen == legacy.address(node, version), answer


@FAMILIES
@pytest.mark.parametrize("size", [56, 4000], ids=["short", "in fragments"])
def test_pings(legacy: Scene, version: int, size: int) -> None:
    cluster = Cluster(legacy.box)
    target = OUTSIDE[version].strip("[]")
    assert ping(cluster, "pod1", target, size) == f"reply {target}"
    server = legacy.address("a2", version)
    assert ping(cluster, "pod1", server, size) == f"reply {server}"


@FAMILIES
def test_a_pod_sees_the_hops_on_its_way(legacy: Scene, version: int) -> None:
    cluster, expired = Cluster(legacy.box), {4: "error 11", 6: "error 3"}[version]
    fabric = next(g.ip for g in legacy.box.topology.gateways if g.version == version)
    node = legacy.address("node1", version)
    assert ping(cluster, "pod1", OUTSIDE[version], ttl=1) == f"{expired} {node}"
    assert ping(cluster, "pod1", OUTSIDE[version], ttl=2) == f"{expired} {fabric}"


@FAMILIES
@pytest.mark.parametrize("server", ["a1", "a2"])
def test_big_datagrams(legacy: Scene, version: int, server: str) -> None:
    """Connection tracking puts fragments together, and the stack cuts them again."""
    service = everywhere(legacy, Port(80, 8080, "UDP"), (server,))
    port, to = service.ports[0].node_port, legacy.address("node1", version)
    with ExitStack() as stack:
        if server == "a2":
            stack.enter_context(judged(legacy))
        for size in (3000, 40000):
            found = exchange(Cluster(legacy.box), "client", "SOCK_DGRAM", (to, port), size)
            assert legacy.name_of(found) == server


@FAMILIES
@pytest.mark.parametrize("server", ["a1", "a2"])
@pytest.mark.parametrize("narrow_at", ["fabric", "node1"])
def test_errors_about_replies_are_related(
    legacy: Scene, version: int, server: str, narrow_at: str
) -> None:
    """A router on the way to the client, or the node itself, says that replies are too big."""
    service = everywhere(legacy, Port(80, 8080), (server,))
    cluster = Cluster(legacy.box)
    to = (legacy.address("node1", version), service.ports[0].node_port)
    host = FABRIC if narrow_at == "fabric" else legacy.box.topology.node("node1").name
    before = [firewall.counted(legacy.box, node) for node in NODES]
    with narrow(cluster, host, version):
        found = exchange(cluster, "client", "SOCK_STREAM", to, 60000)
    assert legacy.name_of(found) == server
    after = [firewall.counted(legacy.box, node) for node in NODES]
    assert [one["invalid"] + one["dropped"] for one in after] == [
        one["invalid"] + one["dropped"] for one in before
    ]
    if narrow_at == "fabric":
        assert after[0]["related"] > before[0]["related"]


def test_the_status_says_so(legacy: Scene) -> None:
    row = Cluster(legacy.box).status("node1")["host_routing"]
    assert row["effective"].startswith("Legacy")
    assert row["wanted"] == row["effective"]
    assert not Cluster(legacy.box).problems("Host routing")
