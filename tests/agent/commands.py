# SPDX-License-Identifier: Apache-2.0
"""Commands on a node, and a service for its agent."""

from __future__ import annotations

import subprocess

from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode
from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS


def command(node: BareNode, *words: str) -> subprocess.CompletedProcess[str]:
    """A kubypass command on the node."""
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{node.namespace}", KUBYPASS, *words],
        capture_output=True, text=True, check=False, timeout=2 * DEADLINE_S,
    )  # fmt: skip


def one_service(node: BareNode) -> None:
    write_file(node.manifests / "service.json", named_service("web", "10.96.0.1"))
    write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.1"], 80))
