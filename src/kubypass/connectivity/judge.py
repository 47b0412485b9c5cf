# SPDX-License-Identifier: Apache-2.0
"""Decides from a pod's report whether a path passed, and explains why not. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubypass.connectivity.paths import Path
from kubypass.connectivity.responder import NO_ANSWER

Drops = Counter[str]
"""The number of dropped packets by `hook: reason`."""
_DROP = re.compile(r'^kubypass_drops_total\{hook="([^"]*)",reason="([^"]*)"\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one path."""

    path: Path
    passed: bool
    detail: str
    """Who answered and how fast, or what went wrong."""
    reasons: tuple[str, ...] = ()
    """The packets that agents dropped meanwhile: `node: hook: reason, packets`."""


def judge(path: Path, said: Mapping[str, Any]) -> Result:
    """Judge a path by the report of its source.

    `said` has `answers` and `failures` of a pod that connected, or `addresses` of one that resolved a name.
    """
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
    if unexpected := pods - path.pods:
        wanted = " or ".join(sorted(path.pods))
        return Result(
            path, passed=False, detail=f"answered by {', '.join(unexpected)}; expected {wanted}"
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
    """The packets that an agent dropped, from its metrics."""
    return Counter(
        {f"{hook}: {reason}": int(packets) for hook, reason, packets in _DROP.findall(metrics)}
    )


def new_drops(node: str, before: Drops, after: Drops) -> tuple[str, ...]:
    """One line for each reason for which packets were dropped meanwhile."""
    found = sorted((after - before).items())
    return tuple(
        f"{node}: {name}, {count} packet{'s' if count > 1 else ''}" for name, count in found
    )
