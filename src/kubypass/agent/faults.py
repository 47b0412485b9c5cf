# SPDX-License-Identifier: Apache-2.0
"""Faults of the program itself: an exception that nobody foresaw is seen, and everything else goes on."""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass

from kubypass.agent.log import log
from kubypass.model.problem import Problem


@dataclass(slots=True)
class _Fault:
    what: str
    times: int = 0


class Faults:
    """Each place that failed: its traceback is logged once, and it is counted and a problem from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, _Fault] = {}

    def note(self, error: Exception) -> None:
        """Notes an exception that was caught. Any thread calls it."""
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
        key = f"{type(error).__name__} at {where}"
        with self._lock:
            fault = self._found.setdefault(key, _Fault(f"{key}: {error}"))
            fault.times += 1
            first = fault.times == 1
        if first:
            text = "".join(traceback.format_exception(error)).rstrip()
            log("fault of the program", "ERROR", fault=key, traceback=f"\n{text}\n")

    @property
    def count(self) -> int:
        """How often the program failed since it started."""
        with self._lock:
            return sum(fault.times for fault in self._found.values())

    def problems(self) -> list[Problem]:
        """One for each place that failed."""
        with self._lock:
            return [
                Problem(
                    "Agent",
                    f"a fault of the program, {fault.times} times: {fault.what}; everything else "
                    "goes on; its traceback is in the agent's log: please report it",
                )
                for fault in self._found.values()
            ]
