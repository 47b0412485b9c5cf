# SPDX-License-Identifier: Apache-2.0
"""Findings: what an operator should know about the settings that were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["accepted", "deprecated", "doubtful", "ignored", "unknown", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an operator should know about one key that was given."""

    key: str
    value: str
    level: Level
    """`ignored`: what it asks for is not done. `doubtful`: it is done, and something suffers from it. Only `wrong`
    stops anything; the default then replaces the value."""
    message: str
    """What to know; empty if the key does what its value says."""

    def __str__(self) -> str:
        said = f"{self.key}: {self.value!r}"
        return f"{said}: {self.message}" if self.message else said
