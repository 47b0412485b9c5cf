# SPDX-License-Identifier: Apache-2.0
"""Pure: what the maps of services hold, and what has to be written when planned items change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kubypass.datapath import layout
from kubypass.datapath.adoption import Adoption, Contents
from kubypass.datapath.allocators import Full
from kubypass.datapath.changes import Changes
from kubypass.datapath.entries import (
    Entry,
    address_key,
    frontend_key,
    service_value,
    source_range_keys,
)
from kubypass.datapath.identifiers import Capacity, Identifiers
from kubypass.datapath.maglev_tables import MaglevTables
from kubypass.datapath.service_addresses import ServiceAddresses
from kubypass.model.cidr import Cidr
from kubypass.model.problem import Problem
from kubypass.plan.items import Item, ItemKey, PlannedFrontend


class Tables:
    """The content of the maps of services, as it is or will be once the changes are written."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.entries: dict[ItemKey, Entry] = {}
        self._services: dict[bytes, bytes] = {}
        self._addresses = ServiceAddresses()
        self._identifiers = Identifiers(capacity)
        self._maglev = MaglevTables(capacity.maglev)
        self.without_table: set[ItemKey] = set()
        """Items for whose Maglev table there is no room."""
        self._adoption: Adoption | None = None

    @property
    def in_use(self) -> dict[str, int]:
        """Entries in use by map."""
        in_use = self._identifiers.in_use
        return {"services": len(self._services), **in_use, "maglev": self._maglev.in_use}

    def adopt(self, contents: Contents) -> None:
        """Starts from what the maps hold. Nothing of it is removed before `finish_adoption`."""
        self._services = dict(contents.services)
        self._adoption = Adoption(contents, self._capacity.slots)
        self._adoption.reserve(self._identifiers)
        self._maglev.adopt(contents.maglev)

    def begin(self) -> Changes:
        """Starts a new round of changes; the previous one has been written."""
        self._identifiers.settle()
        return Changes()

    def put(self, item: Item, changes: Changes) -> Problem | None:
        """Makes the item what is planned. A problem means that a map is full and the item stays as it was.

        Only without room for its Maglev table it is as planned otherwise, and selects at random.
        """
        entry = self.entries.get(item.key) or self._claim(item)
        if entry and entry.item == item:
            return None
        # A frontend may need an entry for its address as well.
        if len(self._services) + 2 * len(item.on_addresses) > self._capacity.services:
            keys = {key for f in item.on_addresses for key in (frontend_key(f), address_key(f))}
            if len(self._services) + len(keys - self._services.keys()) > self._capacity.services:
                return _full(item, "services", self._capacity.services, "bpf-lb-service-map-max")
        try:
            return self._put(item, entry, changes)
        except Full:
            setting = "bpf-lb-service-backend-map-max"
            return _full(item, "backends", self._capacity.backends, setting)

    def remove(self, key: ItemKey, changes: Changes) -> None:
        """Removes an item and everything that it has."""
        entry = self.entries.pop(key, None)
        if entry is None:
            return
        self._drop_frontends(entry.id, entry.item.frontends, changes)
        self._write_addresses(entry.item.on_addresses, (), changes)
        _write_ranges(entry.id, entry.item.source_ranges, (), changes)
        self._identifiers.drop_service(entry, changes)
        self._maglev.drop(entry.table, changes)
        self.without_table.discard(key)

    def finish_adoption(self, changes: Changes) -> None:
        """Removes what no item has claimed. Call it after a complete plan."""
        items = [entry.item for entry in self.entries.values()]
        wanted = {
            key for i in items for f in i.frontends for key in (frontend_key(f), address_key(f))
        }
        wanted |= {address_key(f) for item in items for f in item.lost}
        for key in self._services.keys() - wanted:
            del self._services[key]
            changes.removed_services.add(key)
        for found in self._adoption.unclaimed() if self._adoption else ():
            for number, *_ in found.backends.values():
                self._identifiers.drop_backend(number, changes)
            changes.removed_source_ranges |= found.ranges
            self._identifiers.drop_slots(*found.slots)
        self._adoption = None
        self._maglev.finish_adoption(changes)
        self._write_addresses((), (), changes)

    def _claim(self, item: Item) -> Entry | None:
        """What an earlier agent had written for the item becomes its entry."""
        if not self._adoption:
            return None
        entry = self._adoption.claim(item, self._services, self._maglev)
        if entry:
            self._addresses.replace((), entry.item.frontends)
            self.entries[item.key] = entry
        return entry

    def _put(self, item: Item, old: Entry | None, changes: Changes) -> Problem | None:
        entry = self._identifiers.place(item, old, changes)
        problem = self._take_table(entry, changes)
        ranges = old.item.source_ranges if old else ()
        _write_ranges(entry.id, ranges, item.source_ranges, changes)
        for frontend in item.frontends:
            value = service_value(
                entry.id, entry.lists, frontend.flags, item.affinity_s, entry.table
            )
            self._write_service(frontend_key(frontend), value, changes)
        if old:
            if entry.lists is not old.lists:
                self._identifiers.drop_slots(old.lists.first_slot, old.lists.size)
            kept = {frontend_key(f) for f in item.frontends}
            gone = [f for f in old.item.frontends if frontend_key(f) not in kept]
            self._drop_frontends(old.id, gone, changes)
            for unused in set(old.backend_ids) - set(entry.backend_ids):
                self._identifiers.drop_backend(unused, changes)
            self._maglev.drop(old.table, changes)
        addresses = old.item.on_addresses if old else ()
        self._write_addresses(addresses, item.on_addresses, changes)
        self.entries[item.key] = entry
        return problem

    def _take_table(self, entry: Entry, changes: Changes) -> Problem | None:
        """Gives an item its Maglev table. Without room, its entry says that it has none: the next `put` tries again."""
        self.without_table.discard(entry.item.key)
        try:
            entry.table = self._maglev.take(entry.item, changes)
        except Full:
            item, entry.item = entry.item, replace(entry.item, maglev=None)
            self.without_table.add(item.key)
            return Problem(
                f"Service {item.key}",
                "selects backends at random, since there is no room for its Maglev table "
                f"({self._capacity.maglev} parts in the map maglev); raise bpf-lb-maglev-map-max "
                "and restart the agent",
            )
        return None

    def _write_service(self, key: bytes, value: bytes, changes: Changes) -> None:
        if self._services.get(key) != value:
            self._services[key] = changes.services[key] = value
            changes.removed_services.discard(key)

    def _write_addresses(
        self, old: Iterable[PlannedFrontend], new: Iterable[PlannedFrontend], changes: Changes
    ) -> None:
        self._addresses.replace(old, new)
        if self._adoption is not None:
            return  # what an address is, is known once all items are
        for key, value in self._addresses.changed().items():
            if value is not None:
                self._write_service(key, value, changes)
            elif self._services.pop(key, None) is not None:
                changes.services.pop(key, None)
                changes.removed_services.add(key)

    def _drop_frontends(
        self, number: int, frontends: Iterable[PlannedFrontend], changes: Changes
    ) -> None:
        for frontend in frontends:
            key = frontend_key(frontend)
            raw = self._services.get(key)
            if raw is None or layout.Service.unpack(raw).id != number:
                continue  # another item has it by now
            del self._services[key]
            changes.services.pop(key, None)
            changes.removed_services.add(key)


def _write_ranges(
    number: int, old: tuple[Cidr, ...], new: tuple[Cidr, ...], changes: Changes
) -> None:
    if old == new:
        return
    before, after = source_range_keys(number, old), source_range_keys(number, new)
    changes.source_ranges |= after - before
    changes.removed_source_ranges -= after
    changes.removed_source_ranges |= before - after


def _full(item: Item, name: str, size: int, setting: str) -> Problem:
    return Problem(
        f"Service {item.key}",
        f"is not served: the {name} map is full ({size} entries); raise {setting} and restart the agent",
    )
