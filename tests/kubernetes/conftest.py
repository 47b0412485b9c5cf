# SPDX-License-Identifier: Apache-2.0
"""Real API servers with a bare node linked to them, and whole clusters in a box; one of each a session."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubypass_lab.bench.node import BareNode, bare_node
from kubypass_lab.box.kubernetes import cluster as boxes
from kubypass_lab.box.kubernetes.programs import build_programs
from kubypass_lab.box.kubernetes.proxies import Proxy
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.servers import Servers, api_servers, linked

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GUIDE = EXAMPLES / "guide"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces and BPF programs")
    build_programs(("etcd", "kube-apiserver"), print)
    with api_servers() as made:
        yield made


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


@pytest.fixture
def cluster(servers: Servers, node: BareNode) -> Iterator[Cluster]:
    with linked(servers, node.namespace):
        made = Cluster(servers, node)
        made.prepare()
        yield made
        made.clear()


def in_a_box(
    name: str, nodes: int, proxy: Proxy, file: Path = GUIDE / "config-sample.yaml"
) -> Iterator[boxes.Cluster]:
    """A cluster in a box, of a KubeKey file; taken down whatever happens."""
    name = f"{name}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    settings = GUIDE / "cilium-config.yaml"
    plan = boxes.Plan(file, settings, nodes, proxy, kubypass=proxy == "kubypass")
    kept = "KUBYPASS_KEEP" in os.environ  # from one run to the next, to write tests with
    if not kept:
        boxes.down(name, lambda _: None)
    try:
        yield boxes.up(name, plan, print)
    finally:
        if not kept:
            boxes.down(name, lambda _: None)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[boxes.Cluster]:
    """etcd, API server and controller manager; ready in seconds, no node."""
    yield from in_a_box("api", 0, "none")


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[boxes.Cluster]:
    """Two nodes with kubelet and containerd, whose pods and Services are kubypass's."""
    yield from in_a_box("nodes", 2, "kubypass")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """The agent's log with a test that failed."""
    report = (yield).get_result()
    cluster = item.funcargs.get("cluster") if hasattr(item, "funcargs") else None
    if report.failed and cluster is not None and cluster.log.exists():
        report.sections.append(("agent's log", cluster.said()[-8000:]))
