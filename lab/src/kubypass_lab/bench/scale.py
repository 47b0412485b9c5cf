# SPDX-License-Identifier: Apache-2.0
"""Measures the agent with many services: cold start, restart, memory, and changes of one endpoint."""

from __future__ import annotations

import time
from pathlib import Path

from kubypass_lab.bench.cluster import CHANGED, numbered_slice, write_cluster, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node


def percentile(values: list[float], share: float) -> float:
    """The value below which a `share` (0..1) of the values are (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure_changes(node: BareNode, endpoints: int, count: int) -> dict[str, list[float]]:
    """Changes one endpoint `count` times. Returns ms, and ms of CPU time, by name.

    `change_ms` are from event to map, as the agent measures them; `change_cpu_ms` are what its thread used meanwhile.
    """
    found: dict[str, list[float]] = {"change_ms": [], "change_cpu_ms": []}
    pid = int(node.status()["agent"]["pid"])
    for turn in range(1, count + 1):
        before, spent = _writes(node), _cpu_ms(pid)
        write_file(node.manifests / CHANGED, numbered_slice(0, endpoints, shift=turn % 2))
        while _writes(node) == before:
            time.sleep(0.002)
        found["change_cpu_ms"].append(round(_cpu_ms(pid) - spent, 2))
        found["change_ms"].append(float(node.status()["timings"]["last_change_ms"]))
    return found


def _cpu_ms(pid: int) -> float:
    """The CPU time of a process's first thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6


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
            for what, some in times.items():
                result[what] = {name: percentile(some, share) for name, share in shares.items()}
            result["after_changes"] = node.status()["memory"]
        with agent(node) as seconds:
            status = node.status()
            result["restart"] = {
                "start_s": seconds,
                "timings": status["timings"],
                "writes": status["writes"],
            }
    return result
