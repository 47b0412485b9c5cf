# SPDX-License-Identifier: Apache-2.0
"""Exponential backoff with jitter: the delay before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.25
LONGEST_S = 30.0


class Backoff:
    """The delays of one action that is tried repeatedly."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = FIRST_S

    def delay(self, at_least_s: float = 0.0) -> float:
        """The seconds to wait now. `at_least_s` is what the server asks for; at most LONGEST_S of it count."""
        full_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_S)
        return max(full_s * (0.5 + 0.5 * self._chance()), min(at_least_s, LONGEST_S))

    def reset(self) -> None:
        """The next delay is short again, as after a success."""
        self._next_s = FIRST_S
