# SPDX-License-Identifier: Apache-2.0
"""Measures the agent with many services: cold start, restart, memory, and changes of one endpoint."""

from __future__ import annotations

import time

from kubypass_lab.bench.cluster import CHANGED, numbered_slice, write_cluster, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node


def percentile(values: list[float], share: float) -> float:
    """The value below which a `share` (0..1) of the values are (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure_changes(node: BareNode, endpoints: int, count: int) -> list[float]:
    """Change one endpoint `count` times. Returns the ms from event to map, as the agent measures them."""
    found = []
    for turn in range(1, count + 1):
        before = _writes(node)
        write_file(node.manifests / CHANGED, numbered_slice(0, endpoints, shift=turn % 2))
        while _writes(node) == before:
            time.sleep(0.002)
        found.append(float(node.status()["timings"]["last_change_ms"]))
    return found


def _writes(node: BareNode) -> int:
    return int(node.status()["writes"]["maps"])


def measure(services: int, endpoints: int, changes: int) -> dict[str, object]:
    """All figures. Times are in s or ms, as the names say; memory is in kB."""
    result: dict[str, object] = {"services": services, "endpoints": endpoints}
    with bare_node() as node:
        write_cluster(node.manifests, 1, 1)
        with agent(node) as seconds:
            result["idle"] = {"start_s": seconds, "memory": node.status()["memory"]}
        write_cluster(node.manifests, services, endpoints)
        with agent(node) as seconds:
            status = node.status()
            result["loaded"] = {
                "start_s": seconds,
                "timings": status["timings"],
                "memory": status["memory"],
            }
            times = measure_changes(node, endpoints, changes)
            shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
            result["change_ms"] = {name: percentile(times, share) for name, share in shares.items()}
            result["after_changes"] = node.status()["memory"]
        with agent(node) as seconds:
            status = node.status()
            result["restart"] = {
                "start_s": seconds,
                "timings": status["timings"],
                "writes": status["writes"],
            }
    return result
