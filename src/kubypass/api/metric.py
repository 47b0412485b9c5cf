# SPDX-License-Identifier: Apache-2.0
"""Metrics, and their text for Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type of `render`."""
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, gauge or histogram. A sample is (suffix of the name, labels, value)."""

    name: str
    kind: str
    text: str
    samples: tuple[tuple[str, Labels, float], ...]

    def lines(self) -> list[str]:
        """The lines of its text; none where it has no sample."""
        if not self.samples:
            return []
        head = [f"# HELP {self.name} {self.text}", f"# TYPE {self.name} {self.kind}"]
        return [*head, *(self._line(*sample) for sample in self.samples)]

    def _line(self, suffix: str, labels: Labels, value: float) -> str:
        inner = ",".join(f'{name}="{text.translate(_ESCAPES)}"' for name, text in labels)
        return f"{self.name}{suffix}{f'{{{inner}}}' if inner else ''} {value!r}"


class Histogram:
    """Counts values by the bounds that they do not exceed."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, labels: Labels) -> list[tuple[str, Labels, float]]:
        """The samples of a metric with these labels; none before the first value."""
        totals = list(accumulate(self._counts))
        if not totals[-1]:
            return []
        bounds = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        buckets: list[tuple[str, Labels, float]] = [
            ("_bucket", (*labels, ("le", bound)), total)
            for bound, total in zip(bounds, totals, strict=True)
        ]
        return [*buckets, ("_sum", labels, self._sum), ("_count", labels, totals[-1])]


def render(metrics: Iterable[Metric]) -> str:
    """The metrics as one text."""
    lines = [line for metric in metrics for line in metric.lines()]
    return "\n".join(lines) + "\n"
