# SPDX-License-Identifier: Apache-2.0
"""Clients that are their own server, servers in a node's network, and processes of a node that no socket hook sees."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from kubypass.kernel import netns
from kubypass_lab.box import probe
from kubypass_lab.box.objects import ContainerPort
from kubypass_lab.box.paths import NETNS
from kubypass_lab.box.process import Process, spawn, stop, wait_until
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(80, 8080, "UDP", name="datagrams")
PORTS = pytest.mark.parametrize("port", [TCP, UDP], ids=["TCP", "UDP"])


@PORTS
def test_hairpin(scene: Scene, port: Port) -> None:
    """A pod reaches itself through its service: every kind of address, alone and among others."""
    service = scene.service(port, node_ports=True)
    service = service.with_spec(externalIPs=[service.external(version) for version in (4, 6)])
    ways = ("cluster", "external1", "node1", "node2")
    scene.put(service, [Endpoint("a1")])
    scene.check(service, [("a1", to, {"a1"}) for to in ways])
    scene.put(service)
    scene.check(service, [("a1", to, ALL) for to in ways])
    local = service.with_spec(internalTrafficPolicy="Local", externalTrafficPolicy="Local")
    scene.put(local, [Endpoint("a1"), Endpoint("a2")])
    scene.check(
        local, [("a1", "cluster", {"a1"}), ("a2", "cluster", {"a2"}), ("a1", "node2", {"a2"})]
    )


@PORTS
def test_hairpin_source(scene: Scene, port: Port) -> None:
    """The server sees the node packet by packet, or itself where the socket dialled itself."""
    service = scene.put(scene.service(port), [Endpoint("a1")])
    for version in (4, 6):
        (answer,) = scene.ask(service, "a1", "cluster", version)
        seen = str(answer["client"]).rpartition(":")[0].strip("[]")
        assert seen in {scene.address("node1", version), scene.address("a1", version)}
        assert answer["peer"] == f"{service.address(version)} 80"


@pytest.fixture
def on_nodes(scene: Scene) -> Iterator[Scene]:
    """A server in the network of each node, as a pod with hostNetwork has it, on port 18080."""
    paths, started = scene.box.paths, list[Process]()
    for node in scene.box.nodes:
        words = ["--pod", node.alias, "--node", node.name, "--tcp", "18080", "--udp", "18080"]
        command = [sys.executable, "-m", "kubypass_lab.box.responder", *words]
        where: dict[str, Any] = {
            "cgroup": paths.host_cgroup(node.name),
            "namespace": paths.namespace(node.name),
        }
        log = paths.root / f"server-{node.alias}.log"
        started.append(spawn(command, **where, log=log, env={}))
        with netns.inside(NETNS / paths.namespace(node.name)):
            for port in (ContainerPort(18080), ContainerPort(18080, protocol="UDP")):
                answers = partial(probe.answers, "127.0.0.1", port, http=False)
                assert wait_until(answers)
    yield scene
    for process in started:
        stop(process, signal.SIGTERM, 5)


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_backends_in_the_nodes_network(on_nodes: Scene, protocol: str) -> None:
    """The backends are the same node's, the other's, or both; nodes, pods and a client outside ask."""
    scene, port = on_nodes, Port(80, 18080, protocol)
    service = scene.service(port, node_ports=True)
    scene.put(service, [Endpoint("node1")])
    rows = [(place, "cluster", {"node1"}) for place in ("node1", "node2", "pod1", "pod2", "stray2")]
    rows += [("client", "node1", {"node1"}), ("client", "node2", {"node1"})]
    rows += [
        ("pod1", "node2", {"node1"}),
        ("node1", "loopback", {"node1"}),
        ("pod2", "node1", {"node1"}),
    ]
    scene.check(service, rows)
    scene.put_endpoints(service, [Endpoint("node1"), Endpoint("node2")])
    scene.settle()
    both = {"node1", "node2"}
    scene.check(service, [(place, to, both) for place, to, _ in rows if place != "stray2"])


@PORTS
def test_processes_without_socket_hooks(scene: Scene, port: Port) -> None:
    """A node's process in another cgroup: packet by packet at the uplink, to servers here and there."""
    service = scene.service(port, node_ports=True)
    service = service.with_spec(externalIPs=[service.external(version) for version in (4, 6)])
    scene.put(service)
    strays = ("stray1", "stray2")
    rows = [(place, to, ALL) for place in strays for to in ("cluster", "external1")]
    scene.check(service, [*rows, ("stray1", "node2", ALL), ("stray2", "node1", ALL)])
    scene.put_endpoints(service, [Endpoint("a1")])
    scene.settle()
    scene.check(service, [(place, to, {"a1"}) for place, to, _ in rows])
    for place in strays:
        for version in (4, 6):
            (answer,) = scene.ask(service, place, "cluster", version)
            assert answer["peer"] == f"{service.address(version)} 80"


@PORTS
def test_a_stray_connection_lives_on(scene: Scene, port: Port) -> None:
    """Many exchanges over one connection, to a server on the same node and on the other."""
    for server in ("a1", "a2"):
        service = scene.put(scene.service(port), [Endpoint(server)])
        for version in (4, 6):
            name = f"{server}{version}"
            answers = scene.ask(service, "stray1", "cluster", version, how="keep", name=name)
            for _ in range(20):
                answers += scene.ask(service, "stray1", "cluster", version, how="again", name=name)
            assert {answer.get("pod", answer["outcome"]) for answer in answers} == {server}
            scene.ask(service, "stray1", "cluster", version, how="close", name=name)


def test_strays_keep_their_own_ports(scene: Scene) -> None:
    """One source port, towards the service and straight to its server, at the same time."""
    service = scene.put(scene.service(), [Endpoint("a1")])
    for version, source_port in ((4, 23456), (6, 23457)):
        more: dict[str, Any] = {"how": "keep", "source_port": source_port}
        (first,) = scene.ask(service, "stray1", "cluster", version, name="by service", **more)
        server = scene.address("a1", version)
        (second,) = scene.call("node1", server, 8080, name="straight", **more)
        (third,) = scene.call("stray1", server, 8080, how="ask", source_port=source_port + 10)
        (again,) = scene.ask(service, "stray1", "cluster", version, how="again", name="by service")
        (other,) = scene.call("node1", server, 8080, how="again", name="straight")
        for answer in (first, second, third, again, other):
            assert answer["outcome"] == "ok", (first, second, third, again, other)
        scene.call("stray1", "", 0, how="close", name="by service")
        scene.call("node1", "", 0, how="close", name="straight")


@pytest.mark.parametrize("place", ["pod1", "node1", "node2"])
@pytest.mark.parametrize("version", [4, 6])
def test_unconnected_datagrams(scene: Scene, place: str, version: int) -> None:
    """Answers come from the address that was asked."""
    service = scene.put(scene.service(UDP))
    answers = scene.ask(service, place, "cluster", version, count=20, how="send_to")
    assert {answer.get("peer") for answer in answers} == {f"{service.address(version)} 80"}
    assert {answer["pod"] for answer in answers} <= ALL
