# SPDX-License-Identifier: Apache-2.0
"""Session affinity: a client stays with its server, by every way to the service."""

from __future__ import annotations

import time

import pytest

from kubypass_lab.box.process import wait_until
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port, Service

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(53, 5353, "UDP", name="dns")
OTHER = Port(81, 8081, name="other")
PLACES = (
    ("pod1", "cluster"), ("pod2", "node2"), ("node1", "cluster"), ("node2", "node2"),
    ("node1", "loopback"), ("stray2", "cluster"), ("client", "node1"),
)  # fmt: skip


def sticky(scene: Scene, *ports: Port, timeout_s: int = 10800) -> Service:
    service = scene.service(*ports, node_ports=True, sessionAffinity="ClientIP")
    return service.with_spec(sessionAffinityConfig={"clientIP": {"timeoutSeconds": timeout_s}})


def servers(
    scene: Scene, service: Service, place: str, to: str, version: int, port: Port | None = None
) -> set[str]:
    """Who answers nine connections, made one after another."""
    port = port or service.ports[0]
    found = set()
    for _ in range(9):
        (answer,) = scene.ask(service, place, to, version, port)
        found.add(str(answer.get("pod", answer["outcome"])))
    return found


@pytest.mark.parametrize("port", [TCP, UDP], ids=["TCP", "UDP"])
def test_a_client_stays(scene: Scene, port: Port) -> None:
    service = scene.put(sticky(scene, port))
    for version in (4, 6):
        for place, to in PLACES:
            (server,) = servers(scene, service, place, to, version)
            assert server in ALL, (place, to, server)


@pytest.mark.parametrize("version", [4, 6])
def test_ways_share_it_and_ports_do_not(scene: Scene, version: int) -> None:
    """ClusterIP, NodePort and an external address of one port have one memory; another port has its own."""
    service = sticky(scene, TCP, OTHER)
    service = service.with_spec(externalIPs=[service.external(v) for v in (4, 6)])
    differ = 0
    for _ in range(12):  # with four servers, two memories agree for long only if they are one
        scene.put(service)
        for place in ("pod1", "node1"):
            (first,) = servers(scene, service, place, "cluster", version)
            assert servers(scene, service, place, "node1", version) == {first}
            assert servers(scene, service, place, "external1", version) == {first}
            differ += servers(scene, service, place, "cluster", version, service.ports[1]) != {
                first
            }
        scene.clear()
        scene.settle()
    assert differ


@pytest.mark.parametrize("version", [4, 6])
def test_switched_live(scene: Scene, version: int) -> None:
    service = sticky(scene)
    free = service.with_spec(sessionAffinity="None", sessionAffinityConfig=None)
    places = (("pod1", "cluster"), ("client", "node2"), ("node1", "cluster"))
    scene.put(free)
    scene.check(service, [(place, to, ALL) for place, to in places])
    scene.put(service)
    for place, to in places:
        assert len(servers(scene, service, place, to, version)) == 1
    scene.put(free)
    scene.check(service, [(place, to, ALL) for place, to in places])


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("place", ["pod1", "client"])
def test_a_server_that_goes_is_replaced(scene: Scene, version: int, place: str) -> None:
    service, to = scene.put(sticky(scene)), "cluster" if place == "pod1" else "node1"
    (first,) = servers(scene, service, place, to, version)
    scene.put_endpoints(service, [Endpoint(name) for name in sorted(ALL - {first})])
    scene.settle()
    (second,) = servers(scene, service, place, to, version)
    assert second in ALL - {first}
    scene.put_endpoints(service, [Endpoint(name) for name in sorted(ALL)])
    scene.settle()
    assert servers(scene, service, place, to, version) == {second}


def test_it_ends(scene: Scene) -> None:
    """After its time-out without a connection. Of fourteen clients, one at least then draws another server."""
    service = scene.put(sticky(scene, timeout_s=1))
    clients = [(place, to, version) for place, to in PLACES for version in (4, 6)]

    def everyone() -> list[object]:
        return [scene.ask(service, *client)[0]["pod"] for client in clients]

    before, end_s = everyone(), time.monotonic() + 1.1
    assert wait_until(lambda: time.monotonic() > end_s)
    assert everyone() != before


def test_local_policies_restrict_it(scene: Scene) -> None:
    """A memory of a server elsewhere does not count where only the node's own may serve."""
    service = scene.put(sticky(scene), [Endpoint("a2")])
    assert servers(scene, service, "client", "node1", 4) == {"a2"}
    scene.put_endpoints(service, [Endpoint("a1"), Endpoint("a2")])
    scene.put_service(service.with_spec(externalTrafficPolicy="Local"))
    scene.settle()
    assert servers(scene, service, "client", "node1", 4) == {"a1"}
    assert servers(scene, service, "client", "node2", 4) == {"a2"}
