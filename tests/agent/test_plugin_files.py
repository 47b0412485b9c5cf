# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin, its configuration and its socket come back when somebody removes them, or their directories."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubypass.cni import conflist
from kubypass_lab.bench.cluster import named_service, write_file
from kubypass_lab.bench.node import BareNode, bare_node
from tests.agent.undo import healthz, problems, root, started, wait

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "bench"},
    "spec": {"podCIDRs": ["10.1.0.0/24"]},
}


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        write_file(made.manifests / "service.json", named_service("web", "10.96.0.1"))
        write_file(made.manifests / "node.json", NODE)
        yield made


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def test_files_that_somebody_removes(node: BareNode) -> None:
    conf, programs, asked = node.root / "net.d", node.root / "cni", node.run / "cni.sock"
    ours = (conf / conflist.CONFLIST, programs / conflist.PLUGIN)
    with started(node, f"--cni-conf-dir={conf}", f"--cni-bin-dir={programs}"):
        wait(node, lambda: all(path.is_file() for path in ours) and connects(asked), "the plugin")
        for _ in range(2):
            for path in ours:
                path.unlink()
                wait(node, path.is_file, f"{path} again")
            for directory in (conf, programs):
                gone = directory.rename(
                    directory.with_suffix(".gone")
                )  # at once: the agent writes into it
                shutil.rmtree(gone)
            wait(node, lambda: all(path.is_file() for path in ours), "both files again")
            asked.unlink()
            wait(node, lambda: connects(asked), "the socket again")
            assert asked.stat().st_mode & 0o777 == 0o600
            asked.unlink()
            asked.touch()
            wait(node, lambda: connects(asked), "the socket in the place of a file")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert problems(node) == []
