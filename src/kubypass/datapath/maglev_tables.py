# SPDX-License-Identifier: Apache-2.0
"""Pure: the Maglev tables in the map `maglev`: which items use them, and which parts have to be written or removed.

The number of a table is a digest of all that it is made of (plan/maglev.py). So a table that is in the map is right; it
is neither made nor written again after a restart, and items with the same backends share it. A table whose last item is
gone is removed once no service leads to it. Programs that look for it at that moment select at random.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.allocators import Full
from kubypass.datapath.changes import Changes
from kubypass.model.constants import MAGLEV_CELLS
from kubypass.model.maglev import Maglev
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList
from kubypass.plan.items import Item, PlannedBackend
from kubypass.plan.maglev import MAX_BACKENDS, table_id, table_of

_UNUSED_CELL = 0xFFFF


@dataclass(frozen=True, slots=True)
class Table:
    """What a frontend's value says of its tables."""

    id: int = 0
    cells: int = 0
    """The cells of each list's table; 0 without tables."""


NO_TABLE = Table()


class MaglevTables:
    """The tables in the map, as they are or will be once the changes are written."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._users: dict[int, int] = {}
        self._parts: dict[int, frozenset[bytes]] = {}
        self._found: dict[bytes, bool] = {}

    @property
    def in_use(self) -> int:
        """Parts in the map, of tables that are in use, or may be."""
        return sum(map(len, self._parts.values())) + len(self._found)

    def adopt(self, found: Mapping[bytes, bool]) -> None:
        """Starts from the keys that are in the map, each with whether its value is as an agent wrote it."""
        self._found = dict(found)

    def take(self, item: Item, changes: Changes) -> Table:
        """Returns the tables of an item, whose user it now is; makes them where they are missing. Raises Full."""
        table = wanted_table(item)
        if not table.cells or not item.maglev:
            return NO_TABLE
        if table.id in self._users:
            self._users[table.id] += 1
            return table
        lists = _lists(item.backends)
        keys = frozenset(_keys(table, lists))
        if not all(self._found.get(key) for key in keys):
            in_the_way = len(self._found.keys() - keys) + len(changes.removed_maglev - keys)
            others = sum(map(len, self._parts.values()))
            if others + in_the_way + len(keys) > self._capacity:
                raise Full
            changes.maglev |= _parts(table, item.maglev, item.key.protocol, lists)
        changes.removed_maglev -= keys
        for key in keys:
            self._found.pop(key, None)
        self._users[table.id] = 1
        self._parts[table.id] = keys
        return table

    def has(self, table: Table, backends: Sequence[PlannedBackend]) -> bool:
        """Whether an earlier agent left these tables complete, or an item uses them."""
        keys = _keys(table, _lists(backends))
        return table.id in self._users or all(self._found.get(key) for key in keys)

    def drop(self, table: Table, changes: Changes) -> None:
        """An item no longer uses its tables."""
        if not table.cells:
            return
        self._users[table.id] -= 1
        if not self._users[table.id]:
            del self._users[table.id]
            keys = self._parts.pop(table.id)
            for key in keys:
                changes.maglev.pop(key, None)
            changes.removed_maglev |= keys

    def finish_adoption(self, changes: Changes) -> None:
        """Removes what no item uses."""
        changes.removed_maglev |= self._found.keys()
        self._found = {}


def wanted_table(item: Item) -> Table:
    """The tables that an item needs. Without a choice between backends it needs none."""
    lists = _lists(item.backends)
    if not item.maglev or not 1 < max(map(len, lists)) <= MAX_BACKENDS:
        return NO_TABLE
    return Table(table_id(item.maglev, item.key.protocol, lists), item.maglev.cells)


def is_intact(value: bytes) -> bool:
    """Whether an agent has written this value, and nobody changed it."""
    cells = layout.MaglevCells.unpack(value)
    return zlib.crc32(cells.positions) == cells.checksum


def _lists(backends: Sequence[PlannedBackend]) -> tuple[list[PlannedBackend], list[PlannedBackend]]:
    """The Cluster list and the Local one."""
    return (
        [backend for backend in backends if backend.lists & BackendList.CLUSTER],
        [backend for backend in backends if backend.lists & BackendList.LOCAL],
    )


def _keys(table: Table, lists: Sequence[Sequence[PlannedBackend]]) -> Iterator[bytes]:
    """The keys of the parts: those of the Cluster list, then those of the Local one. An empty list has none."""
    count = -(-table.cells // MAGLEV_CELLS)
    for which, backends in enumerate(lists):
        for number in range(which * count, (which + 1) * count) if backends else ():
            yield layout.MaglevPart(table.id, number).pack()


def _parts(
    table: Table, maglev: Maglev, protocol: Protocol, lists: Sequence[Sequence[PlannedBackend]]
) -> dict[bytes, bytes]:
    """Keys and values of `maglev` for new tables."""
    positions = array("H")
    count = -(-table.cells // MAGLEV_CELLS)
    for backends in filter(None, lists):
        positions.extend(table_of(maglev, protocol, backends))
        positions.extend([_UNUSED_CELL] * (count * MAGLEV_CELLS - table.cells))
    raw, size = positions.tobytes(), MAGLEV_CELLS * positions.itemsize
    parts = (raw[at : at + size] for at in range(0, len(raw), size))
    values = (layout.MaglevCells(part, zlib.crc32(part)).pack() for part in parts)
    return dict(zip(_keys(table, lists), values, strict=True))
