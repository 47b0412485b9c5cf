# SPDX-License-Identifier: Apache-2.0
"""Cuts a failing list of steps down to few of them, by leaving out ever smaller parts (delta debugging)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")


def shrink(
    steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], tries: int = 2000
) -> list[Step]:
    """The shortest list found that still fails, in at most so many tries."""
    kept, size = list(steps), max(len(steps) // 2, 1)
    while tries > 0:
        at, cut = 0, False
        while at < len(kept) and tries > 0:
            rest = kept[:at] + kept[at + size :]
            tries -= 1
            if rest and fails(rest):
                kept, cut = rest, True
            else:
                at += size
        if size == 1 and not cut:
            break
        size = max(size // 2, 1)
    return kept


def told(steps: Sequence[tuple[object, ...]]) -> str:
    """Steps, one a line; objects as JSON."""
    lines = []
    for number, step in enumerate(steps):
        words = [json.dumps(word) if isinstance(word, dict) else str(word) for word in step]
        lines.append(f"{number:3} {' '.join(words)}")
    return "\n".join(lines)
