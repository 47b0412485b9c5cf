# SPDX-License-Identifier: Apache-2.0
"""Logs when problems arise, grow and end: a line for each kind, however many objects have it, and few lines a minute.

A kind that comes and goes is logged four times a minute at most; what it is then is logged as soon as that allows. A
number that changes is logged once a minute.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kubypass.agent.log import log
from kubypass.agent.report.problem_groups import ProblemGroup, Shape

_MINUTE_S = 60.0
_CHANGES_A_MINUTE = 4
"""How often one kind is logged because it came or went."""
_LINES_A_MINUTE = 30
"""How many lines all kinds get together."""


@dataclass(slots=True)
class _Kind:
    """What was logged of one kind."""

    count: int = 0
    """The number that the last line said; 0 after its end."""
    last: ProblemGroup | None = None
    at: deque[float] = field(default_factory=lambda: deque(maxlen=_CHANGES_A_MINUTE))
    """When it came or went, as logged."""
    said_s: float = -_MINUTE_S
    """When its number was logged last."""


class ProblemLog:
    """Remembers what was logged. One thread calls it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Shape, _Kind] = {}
        self._lines: deque[float] = deque(maxlen=_LINES_A_MINUTE)
        self._silenced = False

    def look(self, groups: Mapping[Shape, ProblemGroup]) -> None:
        """Compares the problems of this moment with what was logged."""
        now = self._clock()
        for shape in self._kinds.keys() | groups.keys():
            group, kind = groups.get(shape), self._kinds.setdefault(shape, _Kind())
            self._look_at(kind, group, now)
            if not group and not kind.count and now - kind.said_s >= _MINUTE_S:
                del self._kinds[shape]

    def _look_at(self, kind: _Kind, group: ProblemGroup | None, now: float) -> None:
        count = group.count if group else 0
        if count == kind.count or not self._may(kind, count, now):
            return
        if bool(count) != bool(kind.count):
            kind.at.append(now)
        was, kind.count, kind.said_s = kind.count, count, now
        if group:
            _log_group(group, was)
            kind.last = group
        elif kind.last:
            ended = kind.last
            log("problem ended", subject=ended.subjects, count=was, message=ended.message)

    def _may(self, kind: _Kind, count: int, now: float) -> bool:
        """Whether a line may be logged now; a change that has to wait is looked at again."""
        if count and kind.count:
            if now - kind.said_s < _MINUTE_S:
                return False
        elif len(kind.at) == _CHANGES_A_MINUTE and now - kind.at[0] < _MINUTE_S:
            return False
        if len(self._lines) == _LINES_A_MINUTE and now - self._lines[0] < _MINUTE_S:
            if not self._silenced:
                log("more kinds of problems", "WARNING", see="kubypass status")
            self._silenced = True
            return False
        self._lines.append(now)
        self._silenced = False
        return True


def _log_group(group: ProblemGroup, was: int) -> None:
    fields: dict[str, object] = {"subject": group.subjects}
    if group.count > 1 or was:
        fields["count"] = group.count
    if was:
        fields["was"] = was
    log("problem", "WARNING", **fields, message=group.message)
