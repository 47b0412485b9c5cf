# SPDX-License-Identifier: Apache-2.0
"""Metrics of what the agent and its programs count: packets, sizes, sockets, HTTP. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubypass.agent.report.figures import Figures
from kubypass.api.metric import Labels, Metric
from kubypass.datapath.counters import Count


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


def gauge_metrics(figures: Figures, problems: int) -> list[Metric]:
    """The sizes of what an agent holds; none before its first sync."""
    if not figures.started:
        return []
    gauges = {
        "services": ("Services in the maps.", figures.services),
        "frontends": ("Frontends in the maps.", figures.frontends),
        "backends": ("Backends in the maps.", figures.backends),
        "pods": ("Pods of this node with our programs.", figures.pods),
        "problems": ("Problems in `kubypass status`.", problems),
        "flows": ("Flows that have not expired; counted every few seconds.", figures.flows),
        "masquerade_lost_sources": (
            "Connections ended since the start because the node lost the address that they were masqueraded with.",
            figures.lost_sources,
        ),
        "flows_expired": ("Expired flows removed since the start.", figures.flows_expired),
    }
    return [
        Metric(f"kubypass_{name}", "gauge", text, (("", (), value),))
        for name, (text, value) in gauges.items()
    ]


def socket_metrics(figures: Figures) -> list[Metric]:
    """Closed sockets by protocol; none before the first sync."""
    text = "Sockets closed because their backend was gone."
    samples = tuple(
        ("", (("protocol", protocol.name.lower()),), float(number))
        for protocol, number in figures.sockets_closed.items()
    )
    return [Metric("kubypass_sockets_closed_total", "counter", text, samples)]


def process_metrics(ended: Mapping[str, int], faults: int, repairs: int) -> list[Metric]:
    """HTTP connections that were ended early, faults of the program, and repairs of the node."""
    reasons = ("deadline", "limit")
    samples = tuple(("", (("reason", why),), float(ended.get(why, 0))) for why in reasons)
    return [
        Metric(
            "kubypass_http_connections_ended_total",
            "counter",
            "HTTP connections ended by a deadline, or to make room for others.",
            samples,
        ),
        Metric(
            "kubypass_faults_total",
            "counter",
            "Faults of the program that were caught.",
            (("", (), float(faults)),),
        ),
        Metric(
            "kubypass_repairs_total",
            "counter",
            "How often links, pins, routes or sysctls that others had changed were put back.",
            (("", (), float(repairs)),),
        ),
    ]
