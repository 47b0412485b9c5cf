# SPDX-License-Identifier: Apache-2.0
"""What the maps of services hold as far as we know: somebody else's write is a difference, found without planning."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.tables import Changes
from kubypass.kernel.bpf import Map

_SIZE = layout.BACKEND_SIZE
_NO_BACKEND = bytes(_SIZE)


@dataclass(slots=True)
class Image:
    """The content of four maps; of the arrays all values, one after another."""

    services: dict[bytes, bytes]
    source_ranges: set[bytes]
    slots: bytearray
    backends: bytearray

    def note(self, changes: Changes) -> None:
        """These changes are written."""
        for number, value in changes.backends.items():
            self.backends[number * _SIZE : (number + 1) * _SIZE] = value
        for slot, number in changes.slots.items():
            struct.pack_into("<I", self.slots, slot * 4, number)
        self.source_ranges |= changes.source_ranges
        self.services |= changes.services
        for key in changes.removed_services:
            self.services.pop(key, None)
        for number in changes.removed_backends:
            if number not in changes.backends:
                self.backends[number * _SIZE : (number + 1) * _SIZE] = _NO_BACKEND
        self.source_ranges -= changes.removed_source_ranges


def read_image(maps: dict[str, Map]) -> Image:
    """What the maps hold now."""
    slots, backends = (
        bytearray(b"".join(values for _, values, _ in maps[name].chunks(65536)))
        for name in ("slots", "backends")
    )
    ranges = {key for key, _ in maps["source_ranges"].items()}
    return Image(dict(maps["services"].items()), ranges, slots, backends)
