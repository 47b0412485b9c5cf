# SPDX-License-Identifier: Apache-2.0
"""Pure: what an earlier agent left in the maps, until the first complete plan has claimed its part.

Items keep the identifiers that they have in the maps, so that connections go on and a restart writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kubypass.datapath import layout
from kubypass.datapath.changes import Changes
from kubypass.datapath.entries import (
    Entry,
    Lists,
    frontend_key,
    list_members,
    service_value,
    source_range_keys,
    source_range_of,
)
from kubypass.datapath.identifiers import Identifiers
from kubypass.datapath.maglev_tables import NO_TABLE, MaglevTables, Table, wanted_table
from kubypass.model.address import Address, AddressPort
from kubypass.model.maglev import Maglev
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass.plan.items import Item, PlannedBackend

_NO_BACKEND = bytes(layout.BACKEND_SIZE)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the maps of services hold; `slots` and `backends` are all values, one after another."""

    services: Mapping[bytes, bytes]
    slots: bytes
    backends: bytes
    source_ranges: Iterable[bytes] = ()
    maglev: Mapping[bytes, bool] = field(default_factory=dict)
    """Keys, each with whether its value is as an agent wrote it."""


@dataclass(slots=True)
class Found:
    """One service that an earlier agent left."""

    first_slot: int = 0
    cluster: int = 0
    local: int = 0
    affinity_s: int = 0
    backends: dict[AddressPort, tuple[int, int, int, int]] = field(default_factory=dict)
    """Address and port -> identifier, state, lists and weight."""
    table: Table = NO_TABLE
    ranges: set[bytes] = field(default_factory=set)

    @property
    def slots(self) -> tuple[int, int]:
        """The first slot of its lists, and how many they have."""
        return self.first_slot, self.cluster + self.local


class Adoption:
    """The services that no item has claimed yet, by identifier."""

    def __init__(self, contents: Contents, slots: int) -> None:
        """`slots` is how many the map has room for now."""
        self._slots = contents.slots
        self._found: dict[int, Found] = {}
        self._backend_ids: set[int] = set()
        for raw in contents.services.values():
            self._add_service(layout.Service.unpack(raw), slots)
        for number, backend in _backends(contents.backends):
            found = self._found.setdefault(backend.service, Found())
            found.backends[Address(backend.address), backend.port] = (
                number,
                backend.state,
                backend.lists,
                backend.weight or 1,  # an earlier version knew no weights
            )
            self._backend_ids.add(number)
        for key in contents.source_ranges:
            service = layout.SourceRange.unpack(key).service
            self._found.setdefault(service, Found()).ranges.add(key)

    def _add_service(self, value: layout.Service, slots: int) -> None:
        if value.flags & ServiceFlag.ADDRESS:
            return
        lists = (value.first_slot, value.backends, value.local_backends)
        if sum(lists) > slots:  # the map was larger
            lists = (0, 0, 0)
        found = self._found.setdefault(value.id, Found(*lists, value.affinity_s))
        if value.cells:
            found.table = Table(value.table, value.cells)

    def reserve(self, identifiers: Identifiers) -> None:
        """Marks everything that was found as in use."""
        ranges = [found.slots for found in self._found.values()]
        in_use = [(first, size) for first, size in ranges if size]
        identifiers.reserve(set(self._found), self._backend_ids, in_use)

    def claim(
        self, item: Item, services: Mapping[bytes, bytes], tables: MaglevTables
    ) -> Entry | None:
        """Takes out what an earlier agent had written for the item; None if there is nothing.

        `services` is the map as it will be: entries there that are not as that agent left them are written again.
        """
        number = next(
            (
                value.id
                for frontend in item.frontends
                if (raw := services.get(frontend_key(frontend)))
                and (value := layout.Service.unpack(raw)).id in self._found
            ),
            None,
        )
        if number is None:
            return None
        found = self._found.pop(number)
        first, middle = found.first_slot, found.first_slot + found.cluster
        slots = memoryview(self._slots).cast("I")
        lists = Lists(
            first, tuple(slots[first:middle]), tuple(slots[middle : middle + found.local])
        )
        in_order = sorted(found.backends.items())
        backends = tuple(
            PlannedBackend(address, port, BackendState(state), of, weight)
            for (address, port), (_, state, of, weight) in in_order
        )
        ids = tuple(identifier for _, (identifier, *_) in in_order)
        table, maglev = _recover_table(item, backends, found.table, tables)
        kept = tuple(
            f
            for f in item.frontends
            if services.get(frontend_key(f))
            == service_value(number, lists, f.flags, found.affinity_s, table)
        )
        if (lists.cluster, lists.local) != list_members(ids, backends):
            kept = ()  # the slots are not ours any more: nothing that leads to them can stay
        ranges = item.source_ranges
        if found.ranges != source_range_keys(number, ranges):
            ranges = tuple(map(source_range_of, found.ranges))
        recovered = Item(item.key, kept, backends, found.affinity_s, ranges, maglev=maglev)
        if maglev:
            tables.take(recovered, Changes())  # it is there, so nothing changes
        return Entry(number, recovered, ids, lists, table)

    def unclaimed(self) -> Iterator[Found]:
        """What nobody has claimed."""
        yield from self._found.values()


def _recover_table(
    item: Item, backends: tuple[PlannedBackend, ...], found: Table, tables: MaglevTables
) -> tuple[Table, Maglev | None]:
    """The tables that an earlier agent left for these backends, if they are complete and those that are wanted now."""
    wanted = wanted_table(replace(item, backends=backends))
    if wanted == found and (not wanted.cells or tables.has(found, backends)):
        return found, item.maglev
    return NO_TABLE, None


def _backends(values: bytes) -> Iterator[tuple[int, layout.Backend]]:
    """Identifiers and backends in use."""
    size = layout.BACKEND_SIZE
    for number in range(1, len(values) // size):
        raw = values[number * size : (number + 1) * size]
        if raw != _NO_BACKEND:
            yield number, layout.Backend.unpack(raw)


def backends_of(values: bytes) -> Iterator[tuple[int, AddressPort]]:
    """Services by number, each with the address and port of one of its backends."""
    for _, backend in _backends(values):
        yield backend.service, (Address(backend.address), backend.port)
