# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next attempt: longer each time, and not as long as everybody else."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S = 0.25
LONGEST_S = 30.0


class Backoff:
    """Of one thing that is tried again and again."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._next_s = FIRST_S

    def delay(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait now; `at_least_s` is what the other side asked for, which is believed up to LONGEST_S."""
        wanted, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_S)
        return max(wanted * (0.5 + 0.5 * self._chance()), min(at_least_s, LONGEST_S))

    def reset(self) -> None:
        """It worked."""
        self._next_s = FIRST_S
