# SPDX-License-Identifier: Apache-2.0
"""The one place where a failure of a part of the agent's work ends: it becomes a problem, and is tried again.

What the kernel, a file or the cluster refuses is a problem. Any other exception is a fault of the program, which is
seen as one (faults.py). Either way the other parts go on, and the one that failed is due again, after a time that
doubles. The time is for what may fail for the same reason again; work for which there is news does not wait for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from kubypass.agent.faults import Faults
from kubypass.errors import KubypassError
from kubypass.model.problem import Problem

_FIRST_S = 0.5
_LONGEST_S = 30.0


class Part(StrEnum):
    """A part of the work that can fail by itself; the text stands in its problem."""

    CLUSTER = "following the cluster"
    SERVICES = "checking the services' maps"
    NETWORK = "following this node's devices, addresses and pods"
    FORWARDING = "switching forwarding on"
    KERNEL = "looking at what others may have undone"
    EVENTS = "reading what the kernel tells"
    PLUGIN = "serving the CNI plugin"
    FILES = "keeping the CNI plugin's files"
    FLOWS = "removing expired flows"
    SOCKETS = "closing stale sockets"
    LOOK = "looking at what programs have noted"
    RETRY = "opening ports and telling the cluster"


@dataclass(slots=True)
class _Failing:
    wait_s: float
    due: float
    problem: Problem | None


class Attempts:
    """What fails now, and when it is tried again. One thread calls `run`; any thread reads the problems."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._failing: dict[Part, _Failing] = {}

    def run(self, part: Part, work: Callable[[], object], *, news: bool = False) -> bool:
        """Does one part of the work; False where it failed.

        Work that returns False has failed for some of its objects, which have problems of their own. With `news` the
        next attempt does not wait longer than after a first failure.
        """
        try:
            again, problem = work() is False, None
        except (KubypassError, OSError) as error:
            again, problem = True, self._problem(part, str(error))
        except Exception as error:  # noqa: BLE001  # a fault in one part does not end the node's service
            self._faults.note(error)
            again, problem = True, self._problem(part, f"{type(error).__name__}: {error}")
        if again:
            before = None if news else self._failing.get(part)
            wait_s = min(2 * before.wait_s, _LONGEST_S) if before else _FIRST_S
            self._failing[part] = _Failing(wait_s, self._clock() + wait_s, problem)
        else:
            self._failing.pop(part, None)
        return not again

    def _problem(self, part: Part, why: str) -> Problem:
        return Problem("Agent", f"{part} failed: {why}; it is tried again, and all else goes on")

    def may(self, part: Part) -> bool:
        """Whether the part may be tried now: it did not fail, or its time has come."""
        failing = self._failing.get(part)
        return failing is None or failing.due <= self._clock()

    def due(self, *parts: Part) -> bool:
        """Whether one of these has failed and its time has come."""
        now = self._clock()
        return any(one in self._failing and self._failing[one].due <= now for one in parts)

    def problems(self) -> list[Problem]:
        """One for each part that fails."""
        return [one.problem for one in list(self._failing.values()) if one.problem]
