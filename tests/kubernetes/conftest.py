# SPDX-License-Identifier: Apache-2.0
"""Real API servers, once for a module, and a bare node with a link to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster
from servers import PROGRAMS, api_servers, linked

from kubypass.bench.node import bare_node


@pytest.fixture(scope="session")
def servers():
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces and BPF programs")
    if not (PROGRAMS / "kube-apiserver").exists():
        pytest.skip(f"needs Kubernetes' programs in {PROGRAMS}")
    with api_servers() as made:
        yield made


@pytest.fixture
def node():
    with bare_node() as made:
        yield made


@pytest.fixture
def cluster(servers, node):
    with linked(servers, node.namespace):
        made = Cluster(servers, node)
        made.prepare()
        yield made
        made.clear()
