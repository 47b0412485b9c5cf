# SPDX-License-Identifier: Apache-2.0
"""What is to be said about settings that were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["accepted", "deprecated", "unknown", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said about one key that was given."""

    key: str
    value: str
    level: Level
    """Of these only `wrong` stops anything; the value's default is in its place."""
    message: str
    """Empty if there is nothing to say."""

    def __str__(self) -> str:
        said = f"{self.key}: {self.value!r}"
        return f"{said}: {self.message}" if self.message else said
