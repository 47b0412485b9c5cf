# SPDX-License-Identifier: Apache-2.0
"""Masquerading changes on living nodes, one family after the other: no question is lost, and open connections go on.

The box's network has routes to pods, so that answers come back also to a pod's own address.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass_lab.box.process import wait_until
from kubypass_lab.box.steps_outside import PORT
from tests.box.conftest import Cluster
from tests.box.endless import answers, outcomes, restart, streams
from tests.box.forwarding_scene import forwarding_scene
from tests.box.pings import OUTSIDE, ping
from tests.box.scene import Scene

pytestmark = pytest.mark.xdist_group("masquerade-switch")
SWITCH = {4: "enable-ipv4-masquerade", 6: "enable-ipv6-masquerade"}
STEPS = (frozenset[int](), frozenset({4}), frozenset({4, 6}), frozenset({6}), frozenset({4, 6}))
"""The families in which pods are masqueraded, one step after the other."""


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with forwarding_scene("mqs", tmp_path_factory.mktemp("switch")) as scene:
        yield scene


def seen(cluster: Cluster, version: int) -> str:
    """The address that a server outside sees of the pod."""
    answer = cluster.ask("pod1", "TCP", OUTSIDE[version], PORT)
    assert answer["pod"] == "outside"
    return answer["client"].rpartition(":")[0].strip("[]")


def expected(cluster: Cluster, version: int, masqueraded: frozenset[int]) -> str:
    if version in masqueraded:
        return str(cluster.box.topology.node("node1").address(version))
    node = cluster.box.topology.node("node1").name
    pod = next(pod for pod in cluster.pods("visitor") if pod.node == node)
    return next(text for text in pod.addresses if (":" in text) == (version == 6))


def test_a_switch_loses_nothing(living: Scene, tmp_path: Path) -> None:
    cluster, before = Cluster(living.box), living.box.settings.read_text()
    with streams(living, tmp_path) as logs:
        for masqueraded in STEPS:
            off = (f'{SWITCH[version]}: "false"' for version in SWITCH.keys() - masqueraded)
            restart(living, "\n".join((before, *off, "")))
            for node in ("node1", "node2"):
                found = cluster.status(node)["masquerading"]
                assert set(found.get("families", ())) == masqueraded
            for version in SWITCH:
                assert seen(cluster, version) == expected(cluster, version, masqueraded)
                to = OUTSIDE[version]
                assert ping(cluster, "pod1", to) == f"reply {to.strip('[]')}"
            counts = {host: answers(log) for host, log in logs.items()}
            assert wait_until(lambda: all(answers(logs[h]) > n + 300 for h, n in counts.items()))  # noqa: B023
    found = outcomes(logs)
    assert set(found) == {("pod1", "ok"), ("client", "ok")}, found
