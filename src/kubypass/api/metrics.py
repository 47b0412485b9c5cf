# SPDX-License-Identifier: Apache-2.0
"""Prometheus text (exposition format 0.0.4). Label values are names of enums: nothing to escape."""

from __future__ import annotations

from kubypass.api.view import View

_COUNTERS = (
    ("kubypass_packets_total", "Packets (socket calls for hook socket) by hook and verdict.", 2),
    ("kubypass_bytes_total", "Bytes by hook and verdict.", 3),
)


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
    return "\n".join(lines) + "\n"
