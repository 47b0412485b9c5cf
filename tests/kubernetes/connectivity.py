# SPDX-License-Identifier: Apache-2.0
"""Commands on a node of a cluster, and the end of the namespace that `connectivity test` makes."""

from __future__ import annotations

import subprocess

from kubypass_lab.box.enter import run_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import try_kubectl
from kubypass_lab.box.kubernetes.node import node_target
from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS
from tests.waiting import wait


def command(cluster: Cluster, *words: str) -> list[str]:
    start = ["nsenter", f"--net={cluster.paths.fabric}", KUBYPASS]
    return [*start, *words, "--kubeconfig", str(cluster.paths.kubeconfig)]


def run(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    whole = command(cluster, *words)
    return subprocess.run(
        whole, capture_output=True, text=True, check=False, timeout=15 * DEADLINE_S
    )


def on(cluster: Cluster, node: str, *words: str) -> str:
    done = run_in(node_target(cluster.paths, node), list(words))
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_namespace_gone(cluster: Cluster) -> None:
    words = ("get", "namespace", "kubypass-test")
    wait(lambda: try_kubectl(cluster.paths, *words).returncode != 0, "kubypass-test is gone", 240)
