# SPDX-License-Identifier: Apache-2.0
"""Pods and agents come and go under requests; none fails while a pod is ready."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import scale
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.steps_basic import Scenario
from kubypass_lab.box.steps_resilience import Stream, traffic
from tests.box.conftest import Cluster

pytestmark = pytest.mark.xdist_group("changes")


@pytest.fixture
def streams(cluster: Cluster) -> Iterator[list[Stream]]:
    addresses = tuple(str(text) for text in cluster.spec("my-nginx")["clusterIPs"])
    tour = Scenario(cluster.box, addresses, cluster.node_port("my-nginx"))
    with traffic(tour, cluster.place("pod1").removeprefix("pod/")) as streams:
        yield streams


def assert_all_answered(streams: list[Stream], since_s: float) -> None:
    """No request since then failed, and every stream has had an answer that began after now."""
    now_s = time.monotonic()
    wait_until(lambda: all(s.between(now_s, time.monotonic()) for s in streams))
    for stream in streams:
        requests = stream.between(since_s, time.monotonic())
        assert requests
        assert [each for each in requests if each.outcome != "ok"] == [], stream.name


def test_scaling(cluster: Cluster, streams: list[Stream]) -> None:
    since_s = time.monotonic()
    for replicas in (3, 1, 2):
        scale(cluster.box, "deployment/my-nginx", replicas, print)
    assert_all_answered(streams, since_s)


def test_killed_agents(cluster: Cluster, streams: list[Stream]) -> None:
    box, since_s = cluster.box, time.monotonic()
    agents.stop_agents(box.paths, signal.SIGKILL)
    assert_all_answered(streams, since_s)
    agents.start_agents(box.paths, box.topology, box.settings)
    assert_all_answered(streams, since_s)
    for node in box.nodes:
        writes = agents.ask(box.paths, node.name, "/status")["writes"]
        assert isinstance(writes, dict)
        assert set(writes.values()) == {0}
