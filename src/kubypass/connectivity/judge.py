# SPDX-License-Identifier: Apache-2.0
"""From what a pod says of its tries to passed or failed, and why. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubypass.connectivity.paths import Path
from kubypass.connectivity.responder import NO_ANSWER

Drops = Counter[str]
"""Packets by `hook: reason`."""
_DROP = re.compile(r'^kubypass_drops_total\{hook="([^"]*)",reason="([^"]*)"\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """Of one row."""

    path: Path
    passed: bool
    detail: str
    """Who answered, and in what time; or what went wrong."""
    reasons: tuple[str, ...] = ()
    """What the agents dropped meanwhile: `node: hook: reason, packets`."""


def judge(path: Path, said: Mapping[str, Any]) -> Result:
    """`said`: `answers` and `failures` of the pod that dialled, or `addresses` of the one that resolved."""
    failures = Counter(said.get("failures", ()))
    if path.protocol == "dns":
        addresses = said.get("addresses", ())
        return Result(path, bool(addresses), ", ".join(addresses) or _list(failures))
    answers = said.get("answers", ())
    if path.silent:
        silence = not answers and failures.keys() <= {NO_ANSWER}
        by = ", ".join(sorted({each["pod"] for each in answers}))
        detail = f"answered by {by}; expected no answer" if by else _list(failures)
        return Result(path, silence, detail)
    if failures or not answers:
        return Result(
            path,
            passed=False,
            detail=f"{_list(failures)} ({len(answers)} of {path.tries} answered)",
        )
    pods = {each["pod"] for each in answers} if path.pods else set()
    if strangers := pods - path.pods:
        wanted = " or ".join(sorted(path.pods))
        return Result(
            path, passed=False, detail=f"answered by {', '.join(strangers)}; expected {wanted}"
        )
    clients = {each.get("client") for each in answers}
    if path.client and clients != {path.client}:
        seen = ", ".join(map(str, clients))
        return Result(
            path,
            passed=False,
            detail=f"the pod sees {seen}; expected the client's own {path.client}",
        )
    best = min(each["ms"] for each in answers)
    return Result(
        path, passed=True, detail=f"{', '.join(sorted(pods)) or 'connected'}, {best:.1f} ms"
    )


def _list(failures: Counter[str]) -> str:
    return ", ".join(
        f"{reason} ({count}x)" if count > 1 else reason for reason, count in failures.items()
    )


def parse_drops(metrics: str) -> Drops:
    """From an agent's metrics."""
    return Counter(
        {f"{hook}: {reason}": int(packets) for hook, reason, packets in _DROP.findall(metrics)}
    )


def new_drops(node: str, before: Drops, after: Drops) -> tuple[str, ...]:
    """In words."""
    found = sorted((after - before).items())
    return tuple(
        f"{node}: {name}, {count} packet{'s' if count > 1 else ''}" for name, count in found
    )
