# SPDX-License-Identifier: Apache-2.0
"""Measures Maglev beside random selection: changes of one endpoint, memory, and the flows that one endpoint moves."""

from __future__ import annotations

import struct
import time

from kubypass.kernel.bpf import Map
from kubypass_lab.bench.cluster import CHANGED, numbered_slice, service, write_file, write_list
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.bench.scale import measure_changes, percentile

_NODE_PORTS = range(30000, 32768)
MAX_SERVICES = len(_NODE_PORTS)
"""Each has a NodePort."""
_CELLS, _CELLS_OF_PART = 16381, 512
_TURNS = ("random", "maglev", "random", "maglev")


def measure(services: int, endpoints: int, of_changed: int, changes: int) -> dict[str, object]:
    """All figures. Service 0 has `of_changed` endpoints, one of which changes; the others have `endpoints`."""
    result: dict[str, object] = {"services": services, "endpoints": endpoints}
    result["endpoints_of_changed"] = of_changed
    with bare_node() as node:
        _write(node, services, endpoints, of_changed)
        for algorithm in _TURNS:
            with agent(node, f"--bpf-lb-algorithm={algorithm}") as seconds:
                times = measure_changes(node, of_changed, changes)
                maps = {row["name"]: row for row in node.status()["bpf_maps"]}
                result[algorithm] = {
                    "start_s": seconds,
                    **{
                        what: {"p50": percentile(some, 0.5), "p99": percentile(some, 0.99)}
                        for what, some in times.items()
                    },
                    "table_parts": maps["maglev"]["entries"],
                    "maglev_bytes": maps["maglev"]["memory_bytes"],
                }
        with agent(node, "--bpf-lb-algorithm=maglev") as seconds:
            result["restart"] = {"start_s": seconds, "writes": node.status()["writes"]}
            result["moved_percent"] = _moved(node, of_changed)
    return result


def _moved(node: BareNode, count: int) -> dict[str, float]:
    """The percentage of the other endpoints' flows that move when the first of `count` goes.

    For Maglev it is that of the cells in the kernel; at random, a connection without entry draws a place in the list.
    """
    known = _tables(node)
    write_file(node.manifests / CHANGED, numbered_slice(0, count, shift=7))
    before = _settled(node, unlike=known)
    write_file(node.manifests / CHANGED, numbered_slice(0, count - 1, shift=8))
    after = _settled(node, unlike=before)
    ((_, old),) = before.items() - after.items()
    ((_, new),) = after.items() - before.items()
    drawn = [(cell * count // _CELLS, cell * (count - 1) // _CELLS) for cell in range(_CELLS)]
    return {"maglev": _share(list(zip(old, new, strict=True))), "random": _share(drawn)}


def _share(places: list[tuple[int, int]]) -> float:
    """Places in the list before and after the first one went, so that those that stay are one less."""
    others = [one == two + 1 for one, two in places if one]
    return round(100 * others.count(False) / len(others), 2)


def _settled(node: BareNode, unlike: Tables) -> Tables:
    """The tables in the kernel by number, once they are others than these and stay so."""
    while True:
        time.sleep(0.2)
        first, second = _tables(node), _tables(node)
        if first == second and first != unlike:
            return first


Tables = dict[int, tuple[int, ...]]


def _tables(node: BareNode) -> Tables:
    parts: dict[int, dict[int, tuple[int, ...]]] = {}
    (path,) = (node.root / "bpf").glob("kubypass/*/maglev")
    for key, value in Map.open_pinned(str(path)).items(1024):
        table, number = struct.unpack_from("<QI", key)
        parts.setdefault(table, {})[number] = struct.unpack_from(f"<{_CELLS_OF_PART}H", value)
    return {
        table: tuple(cell for _, some in sorted(found.items()) for cell in some)[:_CELLS]
        for table, found in parts.items()
    }


def _write(node: BareNode, services: int, endpoints: int, of_changed: int) -> None:
    objects = [service(number, _NODE_PORTS[number]) for number in range(services)]
    write_list(node.manifests / "services.json", objects)
    slices = [numbered_slice(n, endpoints, shift=of_changed) for n in range(1, services)]
    write_list(node.manifests / "slices.json", slices)
    write_file(node.manifests / CHANGED, numbered_slice(0, of_changed))
