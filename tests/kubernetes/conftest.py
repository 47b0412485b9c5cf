# SPDX-License-Identifier: Apache-2.0
"""Real clusters, one of each kind a session: a control plane alone, and one with nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass.box.kubernetes.cluster import Cluster, Plan, down, up
from kubypass.box.kubernetes.proxies import Proxy

GUIDE = Path(__file__).resolve().parents[2] / "examples/guide"


def _cluster(name: str, nodes: int, proxy: Proxy) -> Iterator[Cluster]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    name = f"{name}{worker}"
    down(name, lambda _: None)
    try:
        plan = Plan(GUIDE / "config-sample.yaml", GUIDE / "cilium-config.yaml", nodes, proxy)
        yield up(name, plan, print)
    finally:
        down(name, lambda _: None)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """etcd, API server and controller manager; ready in seconds, no node."""
    yield from _cluster("api", 0, "none")


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Cluster]:
    """Two nodes with kubelet and containerd; Services by kube-proxy."""
    yield from _cluster("nodes", 2, "kube-proxy-nftables")
