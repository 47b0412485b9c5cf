# SPDX-License-Identifier: Apache-2.0
"""What the Maglev tables of all services have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Maglev:
    """The size and the seed of tables, on all nodes alike."""

    cells: int
    """A prime number, so that every step leads to all cells."""
    seed: bytes
