# SPDX-License-Identifier: Apache-2.0
"""Maglev with real sockets: two nodes send a client's flow to one server; switching it loses no connection."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.process import stop, wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port, Service
from tests.box.scene_rows import HERE

pytestmark = pytest.mark.xdist_group("scenes")
WEB, DNS = Port(80, 8080), Port(53, 5353, "UDP", name="dns")
SOURCES = range(21000, 21024)
PREFIX = {4: 32, 6: 128}
MAGLEV = 'bpf-lb-algorithm: "maglev"\nbpf-lb-maglev-table-size: "1021"\n'


@pytest.fixture(scope="module")
def maglev(scenes: Scene) -> Iterator[Scene]:
    scenes.restart_agents(MAGLEV)
    yield scenes
    scenes.restart_agents()


def external(scene: Scene, **spec: object) -> Service:
    made = scene.service(WEB, DNS, node_ports=True, **spec)
    return made.with_spec(externalIPs=[made.external(version) for version in (4, 6)])


def route(scene: Scene, address: str, version: int, node: str, what: str = "replace") -> None:
    """The network sends this address to that node."""
    line = f"route {what} {address}/{PREFIX[version]} via {scene.address(node, version)}"
    ip_batch(scene.box.paths.namespace(FABRIC), [line])


def answers(scene: Scene, address: str, port: Port, first: int) -> list[str]:
    """The server that each of some source ports of the client gets."""
    calls = (
        scene.call("client", address, port.number, port.protocol, source_port=first + at)
        for at in range(len(SOURCES))
    )
    return [str(answer.get("pod", answer["outcome"])) for (answer,) in calls]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("sticky", [False, True])
def test_two_nodes_choose_alike(maglev: Scene, scene: Scene, version: int, sticky: bool) -> None:
    """Ports that no entry is left of: each node decides for itself."""
    assert maglev is scene
    spec = {"sessionAffinity": "ClientIP"} if sticky else {}
    service = scene.put(external(scene, **spec))
    address, chosen = service.external(version), []
    for node in ("node1", "node2"):
        route(scene, address, version, node)
        chosen.append(answers(scene, address, DNS, SOURCES[0]))
    route(scene, address, version, "node2", "delete")
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) <= ALL
    assert len(set(chosen[0])) == (1 if sticky else 4)


def test_every_frontend_serves_every_client(maglev: Scene, scene: Scene) -> None:
    assert maglev is scene
    service = scene.put(external(scene))
    hosts = ("client", "pod1", "pod2", "node1")
    for port in service.ports:
        ways = [(host, to, ALL) for host in hosts for to in ("node1", "node2", "external1")]
        scene.check(service, [*ways, ("pod1", "cluster", ALL)], port)


def test_a_local_policy_and_endpoints_that_go(maglev: Scene, scene: Scene) -> None:
    assert maglev is scene
    service = external(scene, externalTrafficPolicy="Local")
    scene.put(service)
    scene.check(service, [("client", "node1", {"a1", "b1"}), ("client", "node2", {"a2", "b2"})])
    some = [Endpoint("a1"), Endpoint("b1", ready=False), Endpoint("a2"), Endpoint("b2")]
    scene.put(service, some)
    scene.check(service, [("client", "node1", {"a1"}), ("client", "node2", {"a2", "b2"})])


def test_switching_loses_nothing(scene: Scene, tmp_path: Path) -> None:
    """New connections and a kept one, by NodePorts, while the agents change from random to Maglev and back."""
    service = scene.put(external(scene))
    targets = [(scene.address(node, version), port.node_port, port.protocol)
               for node in ("node1", "node2") for version in (4, 6) for port in service.ports]  # fmt: skip
    plan = [
        {"kind": kind, "protocol": protocol, "address": address, "port": port}
        for address, port, protocol in targets
        for kind in ("fresh", "kept")
    ]
    (tmp_path / "plan").write_text(json.dumps(plan))
    log = tmp_path / "log"
    command = [sys.executable, str(HERE / "streamer.py"), str(tmp_path / "plan"), str(log)]
    process = scene.spawn("client", command, tmp_path / "said")
    try:
        for lines in (MAGLEV, ""):
            seen = len(outcomes(log))
            assert wait_until(lambda: len(outcomes(log)) > seen + 200)  # noqa: B023 (asked at once)
            scene.restart_agents(lines)
        seen = len(outcomes(log))
        assert wait_until(lambda: len(outcomes(log)) > seen + 200)
    finally:
        stop(process, signal.SIGTERM, 5)
    wrong = {one for one in outcomes(log) if not one.startswith("ok ")}
    assert not wrong


def outcomes(log: Path) -> list[str]:
    """The outcome of each question that was asked so far."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [str(json.loads(line)[3]) for line in lines if line.endswith("]")]
