# SPDX-License-Identifier: Apache-2.0
"""Metrics of what is counted: packets by verdict, and how many there are of what. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubypass.api.metric import Labels, Metric
from kubypass.datapath.counters import Count

_GAUGES = {
    "services": "Services in the maps.",
    "frontends": "Frontends in the maps.",
    "backends": "Backends in the maps.",
    "pods": "Pods of this node with our programs.",
    "problems": "Problems of `kubypass status`.",
    "flows": "Flows that the last pass over the map found.",
    "flows_expired": "Expired flows removed since the agent started.",
}


def packet_metrics(counts: Sequence[Count]) -> list[Metric]:
    """Packets and bytes by hook and verdict, and drops by reason."""
    labels: list[Labels] = [
        (("hook", count.hook.name.lower()), ("verdict", count.verdict.name.lower()))
        for count in counts
    ]
    drops = [
        ("", (("hook", hook), ("reason", verdict.removeprefix("drop_"))), count.packets)
        for count, ((_, hook), (_, verdict)) in zip(counts, labels, strict=True)
        if verdict.startswith("drop_")
    ]
    packets = [("", label, count.packets) for label, count in zip(labels, counts, strict=True)]
    sizes = [("", label, count.bytes) for label, count in zip(labels, counts, strict=True)]
    return [
        Metric(
            "kubypass_packets_total",
            "counter",
            "Packets (socket calls for hook socket) by hook and verdict.",
            tuple(packets),
        ),
        Metric("kubypass_bytes_total", "counter", "Bytes by hook and verdict.", tuple(sizes)),
        Metric("kubypass_drops_total", "counter", "Drops by hook and reason.", tuple(drops)),
    ]


def gauge_metrics(numbers: Mapping[str, int]) -> list[Metric]:
    """A gauge for each number."""
    return [
        Metric(f"kubypass_{name}", "gauge", _GAUGES[name], (("", (), value),))
        for name, value in numbers.items()
    ]
