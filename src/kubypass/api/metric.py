# SPDX-License-Identifier: Apache-2.0
"""Prometheus text (exposition format 0.0.4). Label values are names of enums: nothing to escape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from kubypass.api.view import View

KIND = "text/plain; version=0.0.4; charset=utf-8"
"""Content-Type"""
_COUNTERS = (
    ("kubypass_packets_total", "Packets (socket calls for hook socket) by hook and verdict.", 2),
    ("kubypass_bytes_total", "Bytes by hook and verdict.", 3),
)
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of any kind; `samples` are (suffix of the name, labels, value)."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[str, Labels, float], ...]

    def lines(self) -> list[str]:
        """As Prometheus reads it; nothing at all without a sample."""
        if not self.samples:
            return []
        head = [f"# HELP {self.name} {self.text}", f"# TYPE {self.name} {self.kind}"]
        return [*head, *(self._line(*sample) for sample in self.samples)]

    def _line(self, suffix: str, labels: Labels, value: float) -> str:
        inner = ",".join(f'{name}="{text}"' for name, text in labels)
        return f"{self.name}{suffix}{f'{{{inner}}}' if inner else ''} {value!r}"


class Histogram:
    """Counts of values up to each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, labels: Labels) -> list[tuple[str, Labels, float]]:
        """Of one metric with these labels; none before the first value."""
        totals = list(accumulate(self._counts))
        if not totals[-1]:
            return []
        bounds = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        buckets: list[tuple[str, Labels, float]] = [
            ("_bucket", (*labels, ("le", bound)), total)
            for bound, total in zip(bounds, totals, strict=True)
        ]
        return [*buckets, ("_sum", labels, self._sum), ("_count", labels, totals[-1])]


def render(view: View) -> str:
    """All metrics of an agent."""
    rows = view.counters()
    lines = []
    for name, text, column in _COUNTERS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f'{name}{{hook="{row[0]}",verdict="{row[1]}"}} {row[column]}' for row in rows]
    lines += [
        "# HELP kubypass_drops_total Drops by hook and reason.",
        "# TYPE kubypass_drops_total counter",
    ]
    for hook, verdict, packets, _ in rows:
        if verdict.startswith("drop_"):
            reason = verdict.removeprefix("drop_")
            lines.append(f'kubypass_drops_total{{hook="{hook}",reason="{reason}"}} {packets}')
    for name, value in view.gauges().items():
        lines += [f"# TYPE kubypass_{name} gauge", f"kubypass_{name} {value:g}"]
    for metric in (*view.snat_metrics(), *view.proxy_metrics()):
        lines += metric.lines()
    return "\n".join(lines) + "\n"
