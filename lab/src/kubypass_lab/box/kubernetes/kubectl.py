# SPDX-License-Identifier: Apache-2.0
"""Runs kubectl as the cluster's administrator, in the fabric's namespace, where the API server is."""

from __future__ import annotations

import json
import os
import subprocess
import time

from kubypass.errors import KubypassError
from kubypass_lab.box.files import Json
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.patience import DEADLINE_S

POLL_S = 0.1


def kubectl_environment(paths: ClusterPaths) -> dict[str, str]:
    """The environment in which kubectl uses this cluster and writes no file outside of it."""
    return {"KUBECONFIG": str(paths.kubeconfig), "KUBECACHEDIR": str(paths.root / "kubectl")}


def try_kubectl(
    paths: ClusterPaths, *words: str, stdin: str | None = None, timeout_s: float = 2 * DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run kubectl to its end. The caller judges the exit code."""
    program = str(paths.programs / "kubectl")
    return subprocess.run(
        ["nsenter", f"--net={paths.fabric}", "--", program, *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env={**os.environ, **kubectl_environment(paths)},
    )


def kubectl(
    paths: ClusterPaths, *words: str, stdin: str | None = None, timeout_s: float = 2 * DEADLINE_S
) -> str:
    """The output of kubectl. KubypassError: kubectl failed, with its message."""
    result = try_kubectl(paths, *words, stdin=stdin, timeout_s=timeout_s)
    if result.returncode != 0:
        said = result.stderr.strip().splitlines() or [f"exit {result.returncode}"]
        raise KubypassError(f"kubectl {' '.join(words)}: {said[-1]}")
    return result.stdout


def apply(paths: ClusterPaths, manifests: str) -> None:
    """Apply YAML documents. The API server validates their fields."""
    kubectl(paths, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests)


def get_items(paths: ClusterPaths, *words: str) -> list[Json]:
    """The objects that `kubectl get` lists."""
    items = json.loads(kubectl(paths, "get", *words, "-o", "json"))["items"]
    return [each for each in items if isinstance(each, dict)]


def wait_kubectl(paths: ClusterPaths, deadline_s: float, *words: str) -> str:
    """Repeat a command until it succeeds. KubypassError: it still fails after `deadline_s`, with its last message."""
    end = time.monotonic() + deadline_s
    while True:
        result = try_kubectl(paths, *words)
        if result.returncode == 0:
            return result.stdout
        if time.monotonic() > end:
            said = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise KubypassError(
                f"not true after {deadline_s:.0f} s: kubectl {' '.join(words)}", said
            )
        time.sleep(POLL_S)
