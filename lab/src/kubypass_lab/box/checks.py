# SPDX-License-Identifier: Apache-2.0
"""Counts and prints the checks of the demo."""

from __future__ import annotations

from collections.abc import Callable


class Checks:
    """A numbered list of checks, printed as they are made."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.passed = 0
        self.failed = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self.say(f"\n{title}")

    def check(
        self, what: str, expected: object, seen: object, *, passed: bool | None = None
    ) -> bool:
        """Count and print one check. It passes if `seen` equals `expected`, unless `passed` is given."""
        passed = seen == expected if passed is None else passed
        self.passed += passed
        self.failed += not passed
        number = self.passed + self.failed
        self.say(
            f"{number:4}  {'ok  ' if passed else 'FAIL'}  {what}: expected {expected}, seen {seen}"
        )
        return passed

    def summary(self) -> str:
        """The last line of the demo."""
        return f"demo: {self.passed} passed, {self.failed} failed"
