# SPDX-License-Identifier: Apache-2.0
"""Pure: identifiers of services and backends, and the ranges of `slots` that hold lists of backends.

A service identifier belongs to an item, and a backend identifier to an (item, address, port). The backends of an item's
two lists are one range of `slots`. Other lists get another range, and then each frontend's value changes in one step.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.datapath.allocators import Full, IdAllocator, RangeAllocator
from kubypass.datapath.changes import Changes
from kubypass.datapath.entries import Entry, Lists, backend_value, list_members
from kubypass.plan.items import Item


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many entries the maps have room for."""

    services: int
    backends: int
    slots: int
    maglev: int = 0
    """Parts of Maglev tables."""


class Identifiers:
    """What is allocated, and what is free."""

    def __init__(self, capacity: Capacity) -> None:
        self._services = IdAllocator(1, 1 << 32)
        self._backends = IdAllocator(1, capacity.backends)
        self._slots = RangeAllocator(capacity.slots)

    def reserve(
        self, services: set[int], backends: set[int], ranges: list[tuple[int, int]]
    ) -> None:
        """Marks what an earlier agent allocated as in use. Call it once, first. Ranges are (first slot, size)."""
        self._services.reserve(services)
        self._backends.reserve(backends)
        self._slots.reserve(ranges)

    @property
    def in_use(self) -> dict[str, int]:
        """Allocated backends and slots."""
        return {"backends": self._backends.in_use, "slots": self._slots.in_use}

    def settle(self) -> None:
        """The last changes are written: ranges of slots that they freed may be used again."""
        self._slots.settle()

    def place(self, item: Item, entry: Entry | None, changes: Changes) -> Entry:
        """Gives an item its identifiers and lists, keeping those in `entry`. Full: nothing is allocated."""
        number = entry.id if entry else self._services.take()
        taken: list[int] = []
        try:
            ids = self._place_backends(item, number, entry, taken, changes)
            lists = self._place_lists(item, ids, entry, changes)
        except Full:
            for unused in taken:
                self.drop_backend(unused, changes)
            if not entry:
                self._services.release(number)
            raise
        return Entry(number, item, ids, lists)

    def drop_service(self, entry: Entry, changes: Changes) -> None:
        """Releases everything that an item has."""
        for number in entry.backend_ids:
            self.drop_backend(number, changes)
        self.drop_slots(entry.lists.first_slot, entry.lists.size)
        self._services.release(entry.id)

    def drop_backend(self, number: int, changes: Changes) -> None:
        """Removes a backend and releases its identifier."""
        changes.backends.pop(number, None)
        changes.removed_backends.append(number)
        self._backends.release(number)

    def drop_slots(self, first: int, size: int) -> None:
        """Releases a range of slots after the next `settle`."""
        self._slots.release(first, size)

    def _place_backends(
        self, item: Item, service: int, entry: Entry | None, taken: list[int], changes: Changes
    ) -> tuple[int, ...]:
        """Returns the identifiers of all backends: those that they had, or new ones, which are added to `taken`."""
        same = dict(zip(entry.item.backends, entry.backend_ids, strict=True)) if entry else {}
        by_address_port = {backend[:2]: number for backend, number in same.items()}
        ids = []
        for backend in item.backends:
            number = same.get(backend)
            if number is None:
                number = by_address_port.get(backend[:2])
                if number is None:
                    number = self._backends.take()
                    taken.append(number)
                changes.backends[number] = backend_value(backend, service, item.key.protocol)
            ids.append(number)
        return tuple(ids)

    def _place_lists(
        self, item: Item, ids: tuple[int, ...], entry: Entry | None, changes: Changes
    ) -> Lists:
        """Returns the lists of `entry` if they are still the same, or new ones in another range."""
        cluster, local = list_members(ids, item.backends)
        if entry and (cluster, local) == (entry.lists.cluster, entry.lists.local):
            return entry.lists
        slots = cluster + local
        if not slots:
            return Lists()
        first = self._slots.take(len(slots))
        changes.slots.update(enumerate(slots, first))
        return Lists(first, cluster, local)
