# SPDX-License-Identifier: Apache-2.0
"""What the maps of services hold as far as we know: somebody else's write is a difference, found without planning."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.tables import Changes
from kubypass.kernel.bpf import Map

_SIZE = layout.BACKEND_SIZE
_CHUNK = 8192


@dataclass(slots=True)
class Image:
    """The content of four maps; of the arrays the values up to the last in use, one after another."""

    services: dict[bytes, bytes]
    source_ranges: set[bytes]
    slots: bytearray
    backends: bytearray

    def note(self, changes: Changes) -> None:
        """These changes are written."""
        for number, value in changes.backends.items():
            _set(self.backends, number * _SIZE, value)
        for slot, number in changes.slots.items():
            _set(self.slots, slot * 4, struct.pack("<I", number))
        self.source_ranges |= changes.source_ranges
        self.services |= changes.services
        for key in changes.removed_services:
            self.services.pop(key, None)
        for number in changes.removed_backends:
            if number not in changes.backends:
                _set(self.backends, number * _SIZE, bytes(_SIZE))
        self.source_ranges -= changes.removed_source_ranges


def read_image(maps: dict[str, Map], before: Image | None) -> Image:
    """What the maps hold now: of the arrays as much as was in use `before`; all where that is not known."""
    services = dict(maps["services"].items())
    ranges = {key for key, _ in maps["source_ranges"].items()}
    everything = maps["backends"].info.max_entries * _SIZE if services else 0
    slots = _read(maps["slots"], len(before.slots) if before else everything)
    backends = _read(maps["backends"], len(before.backends) if before else everything)
    if before is None:
        _trim(slots, 4)
        _trim(backends, _SIZE)
    return Image(services, ranges, slots, backends)


def _read(source: Map, size: int) -> bytearray:
    """The first values, `size` bytes of them or all that there are."""
    found = bytearray()
    for _, values, _ in source.chunks(_CHUNK):
        if len(found) >= size:
            break
        found += values
    return found[:size]


def _trim(values: bytearray, size: int) -> None:
    """Takes the values of zeros at the end away."""
    used = len(values.rstrip(b"\0"))
    del values[-(-used // size) * size :]


def _set(values: bytearray, at: int, value: bytes) -> None:
    if at > len(values):
        values.extend(bytes(at - len(values)))
    values[at : at + len(value)] = value
