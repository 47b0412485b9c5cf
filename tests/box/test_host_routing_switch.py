# SPDX-License-Identifier: Apache-2.0
"""Host routing changes on living nodes: no question is lost, old connections go on, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.process import wait_until
from tests.box import firewall
from tests.box.conftest import Cluster
from tests.box.endless import answers, outcomes, restart, streams
from tests.box.forwarding_scene import forwarding_scene
from tests.box.scene import Scene

pytestmark = pytest.mark.xdist_group("host-routing")
NODES = ("node1", "node2")
LEGACY = '\nenable-host-legacy-routing: "true"\ninstall-no-conntrack-iptables-rules: "true"\n'
SYSCTLS = ("all/send_redirects", "eth0/send_redirects", "eth0/rp_filter")


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """BPF host routing to begin with."""
    with forwarding_scene("hrs", tmp_path_factory.mktemp("switch")) as scene:
        yield scene


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
    found = outcomes(logs)
    assert set(found) == {("pod1", "ok"), ("client", "ok")}, found


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
