# SPDX-License-Identifier: Apache-2.0
"""Pure: which identifiers, slots and map entries the planned items get, and what has to be written for it.

A service identifier belongs to an item, a backend identifier to an (item, address, port); both stay as long as
these do, also over a restart, since they are read back from the maps. The backends of an item's two lists are a range
of `slots`; other lists get another range, and then the frontends' values change in one step each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kubypass.datapath import layout
from kubypass.datapath.allocators import Full, IdAllocator, RangeAllocator
from kubypass.datapath.service_addresses import ServiceAddresses
from kubypass.model.address import Address, is_ipv4
from kubypass.model.cidr import Cidr
from kubypass.model.problem import Problem
from kubypass.model.verdict import BackendList, BackendState, ServiceFlag
from kubypass.plan.items import Item, ItemKey, PlannedBackend, PlannedFrontend

_Place = tuple[bytes, int]
_NO_BACKEND = bytes(layout.BACKEND_SIZE)
_CLUSTER, _LOCAL = BackendList.CLUSTER, BackendList.LOCAL
_RANGE_BITS = 32  # of the service's identifier, before those of the address


@dataclass(slots=True)
class Changes:
    """What to write, in the order of the fields."""

    backends: dict[int, bytes] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    source_ranges: set[bytes] = field(default_factory=set)
    services: dict[bytes, bytes] = field(default_factory=dict)
    removed_services: set[bytes] = field(default_factory=set)
    removed_backends: list[int] = field(default_factory=list)
    removed_source_ranges: set[bytes] = field(default_factory=set)

    def __len__(self) -> int:
        set_ = len(self.backends) + len(self.slots) + len(self.services) + len(self.source_ranges)
        removed = len(self.removed_services) + len(self.removed_backends)
        return set_ + removed + len(self.removed_source_ranges)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many entries the maps hold."""

    services: int
    backends: int
    slots: int


@dataclass(frozen=True, slots=True)
class Lists:
    """Where an item's lists are in `slots`: the Cluster list, and after it the Local one."""

    first_slot: int = 0
    cluster: tuple[int, ...] = ()
    """Identifiers of backends."""
    local: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Slots in use."""
        return len(self.cluster) + len(self.local)


@dataclass(slots=True)
class Entry:
    """What one item has in the maps."""

    id: int
    item: Item
    ids: tuple[int, ...]
    """Of the backends, in their order."""
    lists: Lists


@dataclass(slots=True)
class _Found:
    """A service that an earlier agent left in the maps."""

    first_slot: int = 0
    cluster: int = 0
    local: int = 0
    affinity_s: int = 0
    backends: dict[_Place, tuple[int, int, int]] = field(default_factory=dict)
    """Address and port -> identifier, state and lists."""
    ranges: set[bytes] = field(default_factory=set)


class Tables:
    """The content of the maps of services, as it is or will be once the changes are written."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self.entries: dict[ItemKey, Entry] = {}
        self._services: dict[bytes, bytes] = {}
        self._addresses = ServiceAddresses()
        self._service_ids = IdAllocator(1, 1 << 32)
        self._backend_ids = IdAllocator(1, sizes.backends)
        self._ranges = RangeAllocator(sizes.slots)
        self._found: dict[int, _Found] = {}
        self._found_slots = b""
        self._adopting = False

    def adopt(
        self,
        services: Iterable[tuple[bytes, bytes]],
        slots: bytes,
        backends: bytes,
        source_ranges: Iterable[bytes] = (),
    ) -> None:
        """Starts from what the maps hold; `slots` and `backends` are all values, one after another."""
        self._services = dict(services)
        self._found_slots = slots
        self._adopting = True
        for raw in self._services.values():
            value = layout.Service.unpack(raw)
            if not value.flags & ServiceFlag.ADDRESS:
                lists = (value.first_slot, value.backends, value.local_backends)
                if sum(lists) > self._sizes.slots:  # the map was larger
                    lists = (0, 0, 0)
                self._found.setdefault(value.id, _Found(*lists, value.affinity_s))
        used, size = set(), layout.BACKEND_SIZE
        for number in range(1, len(backends) // size):
            raw = backends[number * size : (number + 1) * size]
            if raw == _NO_BACKEND:
                continue
            used.add(number)
            found = layout.Backend.unpack(raw)
            known = self._found.setdefault(found.service, _Found())
            known.backends[found.address, found.port] = (number, found.state, found.lists)
        for key in source_ranges:
            service = layout.SourceRange.unpack(key).service
            self._found.setdefault(service, _Found()).ranges.add(key)
        self._backend_ids.reserve(used)
        self._service_ids.reserve(set(self._found))
        places = [(f.first_slot, f.cluster + f.local) for f in self._found.values()]
        self._ranges.reserve([(first, count) for first, count in places if count])

    def begin(self) -> Changes:
        """A new round of changes; the one before has been written."""
        self._ranges.settle()
        return Changes()

    def put(self, item: Item, changes: Changes) -> Problem | None:
        """Makes the item what is planned. A problem means that the tables are full and the item stays as it was."""
        entry = self.entries.get(item.key) or self._recover(item)
        if entry:
            self.entries[item.key] = entry
            if entry.item == item:
                return None
        # A frontend may need an entry for its address as well.
        if len(self._services) + 2 * len(item.on_addresses) > self._sizes.services:
            new = {key for f in item.on_addresses for key in _keys(f) if key not in self._services}
            if len(self._services) + len(new) > self._sizes.services:
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
        self._drop_frontends(entry.id, entry.item.frontends, changes)
        self._write_addresses(entry.item.on_addresses, (), changes)
        self._write_ranges(entry.id, entry.item.source_ranges, (), changes)
        for number in entry.ids:
            self._drop_backend(number, changes)
        self._ranges.release(entry.lists.first_slot, entry.lists.size)
        self._service_ids.release(entry.id)

    def finish_adoption(self, changes: Changes) -> None:
        """After the first complete plan: what nobody claimed goes."""
        claimed = {entry.id for entry in self.entries.values()}
        items = [entry.item for entry in self.entries.values()]
        wanted = {key for item in items for f in item.frontends for key in _keys(f)}
        wanted |= {_keys(f)[1] for item in items for f in item.lost}
        for key in self._services.keys() - wanted:
            del self._services[key]
            changes.removed_services.add(key)
        for number, found in self._found.items():
            if number in claimed:
                continue
            for backend, _, _ in found.backends.values():
                self._drop_backend(backend, changes)
            changes.removed_source_ranges |= found.ranges
            self._ranges.release(found.first_slot, found.cluster + found.local)
        self._found.clear()
        self._found_slots = b""
        self._adopting = False
        self._write_addresses((), (), changes)

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
        first, middle = found.first_slot, found.first_slot + found.cluster
        slots = memoryview(self._found_slots).cast("I")
        lists = Lists(
            first, tuple(slots[first:middle]), tuple(slots[middle : middle + found.local])
        )
        places = sorted(found.backends)
        kept = tuple(
            f
            for f in item.frontends
            if self._services.get(_key(f)) == _value(number, lists, f.flags, found.affinity_s)
        )
        backends = tuple(
            PlannedBackend(Address(place[0]), place[1], BackendState(state), of)
            for place in places
            for _, state, of in (found.backends[place],)
        )
        ids = tuple(found.backends[place][0] for place in places)
        if (lists.cluster, lists.local) != _members(ids, backends):
            kept = ()  # the slots are not ours any more: nothing that leads to them can stay
        ranges = item.source_ranges
        if found.ranges != _range_keys(number, ranges):
            ranges = tuple(map(_range_of, found.ranges))
        self._addresses.replace((), kept)
        recovered = Item(item.key, kept, backends, found.affinity_s, ranges)
        return Entry(number, recovered, ids, lists)

    def _put(self, item: Item, entry: Entry | None, changes: Changes) -> None:
        number = entry.id if entry else self._service_ids.take()
        taken: list[int] = []
        try:
            ids = self._place_backends(item, number, entry, taken, changes)
            lists = self._place_lists(item, ids, entry, changes)
        except Full:
            for unused in taken:
                self._drop_backend(unused, changes)
            if not entry:
                self._service_ids.release(number)
            raise
        before = entry.item.frontends if entry else ()
        self._write_ranges(
            number, entry.item.source_ranges if entry else (), item.source_ranges, changes
        )
        for frontend in item.frontends:
            value = _value(number, lists, frontend.flags, item.affinity_s)
            self._write_service(_key(frontend), value, changes)
        if entry:
            if lists is not entry.lists:
                self._ranges.release(entry.lists.first_slot, entry.lists.size)
            kept = {_key(f) for f in item.frontends}
            self._drop_frontends(number, (f for f in before if _key(f) not in kept), changes)
            for unused in set(entry.ids) - set(ids):
                self._drop_backend(unused, changes)
        addresses = entry.item.on_addresses if entry else ()
        self._write_addresses(addresses, item.on_addresses, changes)
        self.entries[item.key] = Entry(number, item, ids, lists)

    def _place_backends(
        self, item: Item, service: int, entry: Entry | None, taken: list[int], changes: Changes
    ) -> tuple[int, ...]:
        """Identifiers of all backends: those that they had, or new ones, which are added to `taken`."""
        same = dict(zip(entry.item.backends, entry.ids, strict=True)) if entry else {}
        by_place = {backend[:2]: number for backend, number in same.items()}
        ids = []
        for backend in item.backends:
            number = same.get(backend)
            if number is None:
                number = by_place.get(backend[:2])
                if number is None:
                    number = self._backend_ids.take()
                    taken.append(number)
                address, port, state, lists = backend
                value = layout.Backend(address, service, port, item.key.protocol, state, lists)
                changes.backends[number] = value.pack()
            ids.append(number)
        return tuple(ids)

    def _place_lists(
        self, item: Item, ids: tuple[int, ...], entry: Entry | None, changes: Changes
    ) -> Lists:
        """The lists of before if they are still the same, or new ones in another range."""
        cluster, local = _members(ids, item.backends)
        if entry and (cluster, local) == (entry.lists.cluster, entry.lists.local):
            return entry.lists
        slots = cluster + local
        if not slots:
            return Lists()
        first = self._ranges.take(len(slots))
        changes.slots.update(enumerate(slots, first))
        return Lists(first, cluster, local)

    def _write_service(self, key: bytes, value: bytes, changes: Changes) -> None:
        if self._services.get(key) != value:
            self._services[key] = changes.services[key] = value
            changes.removed_services.discard(key)

    def _write_addresses(
        self,
        old: Iterable[PlannedFrontend],
        new: Iterable[PlannedFrontend],
        changes: Changes,
    ) -> None:
        self._addresses.replace(old, new)
        if self._adopting:
            return  # what an address is, is known once all items are
        for key, value in self._addresses.changed().items():
            if value is not None:
                self._write_service(key, value, changes)
            elif self._services.pop(key, None) is not None:
                changes.services.pop(key, None)
                changes.removed_services.add(key)

    def _write_ranges(
        self, number: int, old: tuple[Cidr, ...], new: tuple[Cidr, ...], changes: Changes
    ) -> None:
        if old == new:
            return
        before, after = _range_keys(number, old), _range_keys(number, new)
        changes.source_ranges |= after - before
        changes.removed_source_ranges -= after
        changes.removed_source_ranges |= before - after

    def _drop_frontends(
        self, number: int, frontends: Iterable[PlannedFrontend], changes: Changes
    ) -> None:
        for frontend in frontends:
            key = _key(frontend)
            raw = self._services.get(key)
            if raw is None or layout.Service.unpack(raw).id != number:
                continue  # another item has it by now
            del self._services[key]
            changes.services.pop(key, None)
            changes.removed_services.add(key)

    def _drop_backend(self, number: int, changes: Changes) -> None:
        changes.backends.pop(number, None)
        changes.removed_backends.append(number)
        self._backend_ids.release(number)


def _members(
    ids: tuple[int, ...], backends: tuple[PlannedBackend, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The backends of the Cluster list, and of the Local one."""
    if not any(lists != _CLUSTER for *_, lists in backends):
        return ids, ()  # the usual case
    both = tuple(zip(ids, backends, strict=True))
    return (
        tuple([number for number, backend in both if backend.lists & _CLUSTER]),
        tuple([number for number, backend in both if backend.lists & _LOCAL]),
    )


def _key(frontend: PlannedFrontend) -> bytes:
    return layout.Frontend(frontend.address, frontend.port, frontend.protocol).pack()


def _keys(frontend: PlannedFrontend) -> tuple[bytes, bytes]:
    """Of the frontend, and of its address alone."""
    return _key(frontend), layout.Frontend(frontend.address, 0, 0).pack()


def _value(number: int, lists: Lists, flags: int, affinity_s: int) -> bytes:
    counts = (len(lists.cluster), len(lists.local))
    return layout.Service(number, lists.first_slot, *counts, flags, affinity_s).pack()


def _range_keys(number: int, ranges: Iterable[Cidr]) -> set[bytes]:
    return {
        layout.SourceRange(_RANGE_BITS + cidr.bits, number, cidr.network).pack() for cidr in ranges
    }


def _range_of(key: bytes) -> Cidr:
    found = layout.SourceRange.unpack(key)
    network, bits = Address(found.client), found.bits - _RANGE_BITS
    return Cidr(network, bits - 96 if is_ipv4(network) else bits)


def _full(item: Item, name: str, size: int, setting: str) -> Problem:
    return Problem(
        f"Service {item.key}",
        f"is not served: the {name} map is full ({size} entries); raise {setting} and restart the agent",
    )
