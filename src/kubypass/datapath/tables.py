# SPDX-License-Identifier: Apache-2.0
"""Pure: which identifiers, slots and map entries the planned items get, and what has to be written for it.

A service identifier belongs to an item, a backend identifier to an (item, address, port); both stay as long as
these do, also over a restart, since they are read back from the maps. The active backends of an item are a
range of `slots`; another set of them gets another range, and then the frontends' values change in one step each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubypass.datapath import layout
from kubypass.datapath.ranges import Full, Numbers, Ranges
from kubypass.model.address import Address
from kubypass.model.problem import Problem
from kubypass.model.verdict import BackendState
from kubypass.plan.items import Item, ItemKey, PlannedBackend, PlannedFrontend

_Place = tuple[bytes, int]
_NO_BACKEND = bytes(layout.BACKEND_SIZE)


@dataclass(slots=True)
class Changes:
    """What to write, in the order of the fields."""

    backends: dict[int, bytes] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    services: dict[bytes, bytes] = field(default_factory=dict)
    removed_services: set[bytes] = field(default_factory=set)
    removed_backends: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        set_ = len(self.backends) + len(self.slots) + len(self.services)
        return set_ + len(self.removed_services) + len(self.removed_backends)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the maps hold."""

    services: int
    backends: int
    slots: int


@dataclass(slots=True)
class Entry:
    """What one item has in the maps."""

    id: int
    frontends: tuple[PlannedFrontend, ...]
    backends: tuple[PlannedBackend, ...]
    ids: tuple[int, ...]
    """Of the backends, in their order."""
    first_slot: int
    active: tuple[int, ...]
    """What is in the slots."""


@dataclass(slots=True)
class _Found:
    """A service that an earlier agent left in the maps."""

    first_slot: int
    count: int
    backends: dict[_Place, tuple[int, int]] = field(default_factory=dict)
    """Address and port -> identifier and state."""


class Tables:
    """The content of `services`, `slots` and `backends`, as it is or will be once the changes are written."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self.entries: dict[ItemKey, Entry] = {}
        self._services: dict[bytes, bytes] = {}
        self._service_ids = Numbers(1, 1 << 32)
        self._backend_ids = Numbers(1, sizes.backends)
        self._ranges = Ranges(sizes.slots)
        self._found: dict[int, _Found] = {}
        self._found_slots = b""

    def adopt(self, services: Iterable[tuple[bytes, bytes]], slots: bytes, backends: bytes) -> None:
        """Starts from what the maps hold; `slots` and `backends` are all values, one after another."""
        self._services = dict(services)
        self._found_slots = slots
        for raw in self._services.values():
            value = layout.Service.unpack(raw)
            self._found.setdefault(value.id, _Found(value.first_slot, value.backends))
        used, size = set(), layout.BACKEND_SIZE
        for number in range(1, len(backends) // size):
            raw = backends[number * size : (number + 1) * size]
            if raw == _NO_BACKEND:
                continue
            used.add(number)
            value_ = layout.Backend.unpack(raw)
            found = self._found.setdefault(value_.service, _Found(0, 0))
            found.backends[value_.address, value_.port] = (number, value_.state)
        self._backend_ids.reserve(used)
        self._service_ids.reserve(set(self._found))
        self._ranges.reserve([(f.first_slot, f.count) for f in self._found.values() if f.count])

    def begin(self) -> Changes:
        """A new round of changes; the one before has been written."""
        self._ranges.settle()
        return Changes()

    def put(self, item: Item, changes: Changes) -> Problem | None:
        """Makes the item what is planned. A problem means that the tables are full and the item stays as it was."""
        entry = self.entries.get(item.key) or self._recover(item)
        if entry and entry.frontends == item.frontends and entry.backends == item.backends:
            self.entries[item.key] = entry
            return None
        if len(self._services) + len(item.frontends) > self._sizes.services:
            new = sum(1 for f in item.frontends if _key(f) not in self._services)
            if len(self._services) + new > self._sizes.services:
                return _full(item, "services", self._sizes.services, "bpf-lb-service-map-max")
        try:
            self._put(item, entry, changes)
        except Full:
            return _full(item, "backends", self._sizes.backends, "bpf-lb-service-backend-map-max")
        return None

    def remove(self, key: ItemKey, changes: Changes) -> None:
        """The item is gone."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return
        self._drop_frontends(entry.id, entry.frontends, changes)
        for number in entry.ids:
            self._drop_backend(number, changes)
        self._ranges.give_back(entry.first_slot, len(entry.active))
        self._service_ids.give_back(entry.id)

    def finish_adoption(self, changes: Changes) -> None:
        """After the first complete plan: what nobody claimed goes."""
        claimed = {entry.id for entry in self.entries.values()}
        wanted = {_key(f) for entry in self.entries.values() for f in entry.frontends}
        for key in self._services.keys() - wanted:
            del self._services[key]
            changes.removed_services.add(key)
        for number, found in self._found.items():
            if number in claimed:
                continue
            for backend, _ in found.backends.values():
                self._drop_backend(backend, changes)
            self._ranges.give_back(found.first_slot, found.count)
        self._found.clear()
        self._found_slots = b""

    def _recover(self, item: Item) -> Entry | None:
        """What an earlier agent had written for the item."""
        number = next(
            (
                value.id
                for frontend in item.frontends
                if (raw := self._services.get(_key(frontend)))
                and (value := layout.Service.unpack(raw)).id in self._found
            ),
            None,
        )
        if number is None:
            return None
        found = self._found.pop(number)
        places = sorted(found.backends)
        slots = self._found_slots[found.first_slot * 4 : (found.first_slot + found.count) * 4]
        return Entry(
            number,
            tuple(
                f for f in item.frontends if self._services.get(_key(f)) == _value(number, found, f)
            ),
            tuple(
                PlannedBackend(place[0], place[1], BackendState(found.backends[place][1]))  # type: ignore[arg-type]
                for place in places
            ),
            tuple(found.backends[place][0] for place in places),
            found.first_slot,
            tuple(memoryview(slots).cast("I")),
        )

    def _put(self, item: Item, entry: Entry | None, changes: Changes) -> None:
        old = dict(zip(entry.backends, entry.ids, strict=True)) if entry else {}
        by_place = {backend[:2]: number for backend, number in old.items()}
        number = entry.id if entry else self._service_ids.take()
        taken: list[int] = []
        try:
            ids, active = self._place_backends(item, number, (old, by_place), taken, changes)
            first = entry.first_slot if entry else 0
            if not entry or active != entry.active:
                first = self._place_slots(active, changes)
        except Full:
            for unused in taken:
                self._drop_backend(unused, changes)
            if not entry:
                self._service_ids.give_back(number)
            raise
        if entry and active != entry.active:
            self._ranges.give_back(entry.first_slot, len(entry.active))
        for frontend in item.frontends:
            key = _key(frontend)
            value = layout.Service(number, first, len(active), frontend.flags).pack()
            if self._services.get(key) != value:
                self._services[key] = changes.services[key] = value
                changes.removed_services.discard(key)
        if entry:
            kept = set(item.frontends)
            gone = tuple(f for f in entry.frontends if f not in kept)
            self._drop_frontends(number, gone, changes, {_key(f) for f in item.frontends})
            for unused in set(entry.ids) - set(ids):
                self._drop_backend(unused, changes)
        self.entries[item.key] = Entry(number, item.frontends, item.backends, ids, first, active)

    def _place_backends(
        self,
        item: Item,
        service: int,
        known: tuple[dict[PlannedBackend, int], dict[tuple[Address, int], int]],
        taken: list[int],
        changes: Changes,
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Identifiers of all backends and of the active ones; `known` are those of before, with and without state."""
        same, by_place = known
        ids, active = [], []
        for backend in item.backends:
            number = same.get(backend)
            if number is None:
                number = by_place.get(backend[:2])
                if number is None:
                    number = self._backend_ids.take()
                    taken.append(number)
                address, port, state = backend
                value = layout.Backend(address, service, port, item.key.protocol, state)
                changes.backends[number] = value.pack()
            ids.append(number)
            if backend.state == BackendState.ACTIVE:
                active.append(number)
        return tuple(ids), tuple(active)

    def _place_slots(self, active: tuple[int, ...], changes: Changes) -> int:
        if not active:
            return 0
        first = self._ranges.take(len(active))
        changes.slots.update(enumerate(active, first))
        return first

    def _drop_frontends(
        self,
        number: int,
        frontends: Iterable[PlannedFrontend],
        changes: Changes,
        kept: set[bytes] | None = None,
    ) -> None:
        for frontend in frontends:
            key = _key(frontend)
            if kept and key in kept:
                continue
            raw = self._services.get(key)
            if raw is None or layout.Service.unpack(raw).id != number:
                continue  # another item has it by now
            del self._services[key]
            changes.services.pop(key, None)
            changes.removed_services.add(key)

    def _drop_backend(self, number: int, changes: Changes) -> None:
        changes.backends.pop(number, None)
        changes.removed_backends.append(number)
        self._backend_ids.give_back(number)


def _key(frontend: PlannedFrontend) -> bytes:
    return layout.Frontend(frontend.address, frontend.port, frontend.protocol).pack()


def _value(number: int, found: _Found, frontend: PlannedFrontend) -> bytes:
    return layout.Service(number, found.first_slot, found.count, frontend.flags).pack()


def _full(item: Item, name: str, size: int, setting: str) -> Problem:
    return Problem(
        f"Service {item.key}",
        f"is not served: the {name} map is full ({size} entries); raise {setting} and restart the agent",
    )
