# SPDX-License-Identifier: Apache-2.0
"""Host routing changes on living nodes: no question is lost, old connections go on, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import Process, is_alive, stop, wait_until
from kubypass_lab.box.steps_outside import PORT as OUTSIDE_PORT
from tests.box import firewall
from tests.box.conftest import HERE, Cluster
from tests.box.forwarding_scene import forwarding_scene
from tests.box.pings import OUTSIDE
from tests.box.scene import Scene
from tests.box.scene_objects import Port

pytestmark = pytest.mark.xdist_group("host-routing")
NODES = ("node1", "node2")
LEGACY = '\nenable-host-legacy-routing: "true"\ninstall-no-conntrack-iptables-rules: "true"\n'
SYSCTLS = ("all/send_redirects", "eth0/send_redirects", "eth0/rp_filter")


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """BPF host routing to begin with."""
    with forwarding_scene("hrs", tmp_path_factory.mktemp("switch")) as scene:
        yield scene


def plan(scene: Scene, host: str) -> list[dict[str, str]]:
    """Streams to both nodes' frontends, and from pods to the outside."""
    found = []
    for protocol in ("TCP", "UDP"):
        service = scene.put(scene.service(Port(80, 8080, protocol), node_ports=True))
        for version in (4, 6):
            targets = [
                scene.target(service, to, version, service.ports[0]) for to in ("cluster", "node1")
            ]
            if host.startswith("pod"):
                targets.append((OUTSIDE[version].strip("[]"), OUTSIDE_PORT))
            found += [
                {"kind": kind, "protocol": protocol, "address": address, "port": str(port)}
                for address, port in targets
                for kind in ("kept", "fresh" if protocol == "UDP" else "new")
            ]
    return found


@contextmanager
def streams(scene: Scene, directory: Path) -> Iterator[dict[str, Path]]:
    """Asks without end from a pod and from outside."""
    logs, started = {}, list[Process]()
    try:
        for host in ("pod1", "client"):
            path, logs[host] = directory / f"{host}.json", directory / f"{host}.log"
            path.write_text(json.dumps(plan(scene, host)))
            command = [sys.executable, str(HERE / "streamer.py"), str(path), str(logs[host])]
            started.append(scene.spawn(host, command, directory / f"{host}.errors"))
        assert wait_until(
            lambda: all(log.is_file() and answers(log) > 200 for log in logs.values())
        )
        yield logs
        assert all(map(is_alive, started))
    finally:
        for process in started:
            stop(process, signal.SIGTERM, DEADLINE_S)


def answers(log: Path) -> int:
    return len(log.read_text().splitlines())


def restart(scene: Scene, settings: str) -> None:
    """The agents begin again with other settings, which is how a file's settings change."""
    box = scene.box
    box.settings.write_text(settings)
    agents.stop_agents(box.paths)
    agents.start_agents(box.paths, box.topology, box.settings)


def effective(scene: Scene) -> set[str]:
    return {str(Cluster(scene.box).status(node)["host_routing"]["effective"]) for node in NODES}


def sysctls(scene: Scene, node: str) -> list[str]:
    paths = [f"/proc/sys/net/ipv4/conf/{name}" for name in SYSCTLS]
    return scene.run(node, "cat", *paths).split()


def test_a_switch_loses_nothing(living: Scene, tmp_path: Path) -> None:
    scene, before = living, living.box.settings.read_text()
    sysctls_before = {node: sysctls(scene, node) for node in NODES}
    with streams(scene, tmp_path) as logs:
        for settings, word in (
            (before + LEGACY, "Legacy"),
            (before, "BPF"),
            (before + LEGACY, "Legacy"),
        ):
            restart(scene, settings)
            assert effective(scene) == {word}
            counts = {host: answers(log) for host, log in logs.items()}
            assert wait_until(lambda: all(answers(logs[h]) > n + 300 for h, n in counts.items()))  # noqa: B023
            tables = firewall.nft(scene.box, "node1", "list", "tables")
            assert ("inet kubypass" in tables) == (word == "Legacy")
            if word == "Legacy":
                assert sysctls(scene, "node1")[:2] == ["0", "0"]
            else:
                assert {node: sysctls(scene, node) for node in NODES} == sysctls_before
    outcomes = Counter(
        (host, json.loads(line)[3].split()[0])
        for host, log in logs.items()
        for line in log.read_text().splitlines()
    )
    assert set(outcomes) == {("pod1", "ok"), ("client", "ok")}, outcomes


def test_nothing_is_left_behind(living: Scene) -> None:
    """`kubypass cleanup` on a node with legacy host routing puts its sysctls back, and removes the table."""
    scene = living
    if effective(scene) != {"Legacy"}:
        restart(scene, scene.box.settings.read_text() + LEGACY)
    agents.stop_agents(scene.box.paths)
    said = Cluster(scene.box).run("node1", "kubypass", "cleanup")
    assert "removed nftables table inet kubypass" in said
    assert "send_redirects back to 1" in said
    assert "kubypass" not in firewall.nft(scene.box, "node1", "list", "tables")
    assert sysctls(scene, "node1")[:2] == ["1", "1"]
