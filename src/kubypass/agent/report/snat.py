# SPDX-License-Identifier: Apache-2.0
"""Reports SNAT source ports: their ranges, and the backends for which no port was free."""

from __future__ import annotations

from collections.abc import Sequence

from kubypass.api.metric import Metric
from kubypass.datapath.snat_failures import SnatFailure
from kubypass.model.address import format_address_port
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.plan.snat import SnatPorts

_SHOWN = 20
"""How many backends are shown; they are the worst ones."""
_RECENT_S = 600
"""How long a failure counts as a problem."""


def _backend(failure: SnatFailure) -> str:
    return format_address_port(failure.address, failure.port, Protocol(failure.protocol))


def snat_status(ports: SnatPorts, failures: Sequence[SnatFailure]) -> dict[str, object]:
    """The part `snat` of the status."""
    return {
        "ports": str(ports),
        "count": ports.count,
        "failures": [
            {"backend": _backend(failure), "connections": failure.connections}
            for failure in failures[:_SHOWN]
        ],
    }


def snat_problems(failures: Sequence[SnatFailure], now_ns: int, advice: str) -> list[Problem]:
    """A problem for each backend for which connections were dropped recently, with the advice how to get more ports."""
    recent = [one for one in failures if now_ns - one.last_ns < _RECENT_S * 10**9]
    return [
        Problem(
            "SNAT",
            f"no free source port towards {_backend(failure)}: {failure.connections} times, last "
            f"{(now_ns - failure.last_ns) // 10**9} s ago; {advice}",
        )
        for failure in recent[:_SHOWN]
    ]


def snat_metrics(failures: Sequence[SnatFailure]) -> list[Metric]:
    """Failures by backend."""
    text = "Connections dropped because no source port was free, by backend."
    samples = tuple(
        ("", (("backend", _backend(failure)),), float(failure.connections))
        for failure in failures[:_SHOWN]
    )
    return [Metric("kubypass_snat_failures_total", "counter", text, samples)]
