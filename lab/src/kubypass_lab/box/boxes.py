# SPDX-License-Identifier: Apache-2.0
"""Lists the boxes of this machine, and what of each is running."""

from __future__ import annotations

from kubypass.errors import KubypassError
from kubypass_lab.box import agents
from kubypass_lab.box.box import open_box
from kubypass_lab.box.kubernetes.cluster import open_cluster
from kubypass_lab.box.kubernetes.paths import cluster_names
from kubypass_lab.box.paths import RUN


def describe_boxes() -> list[dict[str, str]]:
    """A row of text for each box: boxes of any checkout, and this checkout's real clusters."""
    try:
        names = sorted(path.name for path in RUN.iterdir() if path.is_dir())
    except FileNotFoundError:
        names = []
    return [*map(_describe_box, names), *map(_describe_cluster, cluster_names())]


def _describe_box(name: str) -> dict[str, str]:
    row = {"name": name, "kind": "manifests"}
    try:
        box = open_box(name)
    except KubypassError:
        return {**row, "nodes": "-", "state": f"not complete; kubypass box down --name {name}"}
    running = sum(agents.is_running(box.paths, node.name) for node in box.nodes)
    state = f"{running} of {len(box.nodes)} agents running"
    return {**row, "nodes": ",".join(node.alias for node in box.nodes), "state": state}


def _describe_cluster(name: str) -> dict[str, str]:
    row = {"name": name, "kind": "kubernetes"}
    try:
        cluster = open_cluster(name)
    except KubypassError:
        return {**row, "nodes": "-", "state": f"not complete; kubypass box down --name {name}"}
    return {**row, "nodes": ",".join(node.alias for node in cluster.nodes), "state": "made"}
