# SPDX-License-Identifier: Apache-2.0
"""A copy of what we wrote into the maps of services: comparing it with the maps finds somebody else's writes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from kubypass.datapath import layout
from kubypass.datapath.adoption import Contents
from kubypass.datapath.changes import Changes
from kubypass.datapath.identifiers import Capacity
from kubypass.datapath.maglev_tables import is_intact
from kubypass.kernel.bpf import Map

_SIZE = layout.BACKEND_SIZE
_CHUNK = 8192
_PARTS = 1024
"""Parts of Maglev tables that are read at once."""
_SIZED = ("services", "backends", "slots", "maglev")


@dataclass(slots=True)
class Mirror:
    """The content of the maps. Arrays are copied up to the last value in use."""

    services: dict[bytes, bytes]
    source_ranges: set[bytes]
    slots: bytearray
    backends: bytearray
    maglev: dict[bytes, bool] = field(default_factory=dict)
    """The keys alone, each with whether its value is as an agent wrote it."""

    def contents(self) -> Contents:
        """The mirror as tables adopt it."""
        return Contents(
            self.services,
            bytes(self.slots),
            bytes(self.backends),
            frozenset(self.source_ranges),
            dict(self.maglev),
        )

    def note(self, changes: Changes) -> None:
        """Takes in changes that were written."""
        for number, value in changes.backends.items():
            _set(self.backends, number * _SIZE, value)
        for slot, number in changes.slots.items():
            _set(self.slots, slot * 4, struct.pack("<I", number))
        self.maglev |= dict.fromkeys(changes.maglev, True)
        self.source_ranges |= changes.source_ranges
        self.services |= changes.services
        for key in changes.removed_services:
            self.services.pop(key, None)
        for number in changes.removed_backends:
            if number not in changes.backends:
                _set(self.backends, number * _SIZE, bytes(_SIZE))
        self.source_ranges -= changes.removed_source_ranges
        for key in changes.removed_maglev:
            self.maglev.pop(key, None)


def read_capacity(maps: dict[str, Map]) -> Capacity:
    """How many entries these maps have room for."""
    return Capacity(*(maps[name].info.max_entries for name in _SIZED))


def read_mirror(maps: dict[str, Map], previous: Mirror | None) -> Mirror:
    """Reads what the maps hold now. Of arrays it reads as much as `previous` has, or all values without one."""
    services = dict(maps["services"].items())
    ranges = {key for key, _ in maps["source_ranges"].items()}
    everything = maps["backends"].info.max_entries * _SIZE if services else 0
    slots = _read(maps["slots"], len(previous.slots) if previous else everything)
    backends = _read(maps["backends"], len(previous.backends) if previous else everything)
    if previous is None:
        _trim(slots, 4)
        _trim(backends, _SIZE)
    return Mirror(services, ranges, slots, backends, _read_parts(maps["maglev"]))


def _read_parts(maglev: Map) -> dict[bytes, bool]:
    """The keys in the map, each with whether its value is intact."""
    return {key: is_intact(value) for key, value in maglev.items(_PARTS)}


def _read(source: Map, size: int) -> bytearray:
    """The first `size` bytes of the values, or all that there are."""
    found = bytearray()
    for _, values, _ in source.chunks(_CHUNK):
        if len(found) >= size:
            break
        found += values
    return found[:size]


def _trim(values: bytearray, size: int) -> None:
    """Cuts off values of zeros at the end."""
    used = len(values.rstrip(b"\0"))
    del values[-(-used // size) * size :]


def _set(values: bytearray, at: int, value: bytes) -> None:
    if at > len(values):
        values.extend(bytes(at - len(values)))
    values[at : at + len(value)] = value
