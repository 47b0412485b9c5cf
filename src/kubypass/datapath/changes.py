# SPDX-License-Identifier: Apache-2.0
"""One round of changes to the maps of services."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Changes:
    """What has to be written, in the order of the fields (apply.py)."""

    backends: dict[int, bytes] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    maglev: dict[bytes, bytes] = field(default_factory=dict)
    source_ranges: set[bytes] = field(default_factory=set)
    services: dict[bytes, bytes] = field(default_factory=dict)
    removed_services: set[bytes] = field(default_factory=set)
    removed_backends: list[int] = field(default_factory=list)
    removed_source_ranges: set[bytes] = field(default_factory=set)
    removed_maglev: set[bytes] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(len(getattr(self, one.name)) for one in fields(self))
