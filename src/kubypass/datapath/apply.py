# SPDX-License-Identifier: Apache-2.0
"""Writes changes to the maps, make before break.

A frontend is switched to a list only when the list and its Maglev table are complete, and a backend is removed only
when no list has it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kubypass.datapath import layout
from kubypass.datapath.changes import Changes
from kubypass.kernel.bpf import Map


def apply_changes(maps: dict[str, Map], changes: Changes) -> int:
    """Writes everything; returns how many entries were written."""
    _write_numbered(maps["backends"], changes.backends)
    slots = changes.slots
    maps["slots"].update_batch(_pack(slots), _pack(slots.values()), len(slots))
    tables = changes.maglev
    maps["maglev"].update_batch(b"".join(tables), b"".join(tables.values()), len(tables))
    ranges = changes.source_ranges
    maps["source_ranges"].update_batch(b"".join(ranges), bytes(4 * len(ranges)), len(ranges))
    services = changes.services
    maps["services"].update_batch(b"".join(services), b"".join(services.values()), len(services))
    maps["services"].delete_batch(b"".join(changes.removed_services), len(changes.removed_services))
    empty = bytes(layout.BACKEND_SIZE)
    gone = {number: empty for number in changes.removed_backends if number not in changes.backends}
    _write_numbered(maps["backends"], gone)
    ranges = changes.removed_source_ranges
    maps["source_ranges"].delete_batch(b"".join(ranges), len(ranges))
    gone_parts = changes.removed_maglev
    maps["maglev"].delete_batch(b"".join(gone_parts), len(gone_parts))
    return len(changes)


def _write_numbered(target: Map, values: dict[int, bytes]) -> None:
    target.update_batch(_pack(values), b"".join(values.values()), len(values))


def _pack(numbers: Iterable[int]) -> bytes:
    values = tuple(numbers)
    return struct.pack(f"<{len(values)}I", *values)
