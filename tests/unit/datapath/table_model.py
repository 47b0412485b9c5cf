# SPDX-License-Identifier: Apache-2.0
"""A plain model of the maps of services, and items to put into them."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from kubypass.datapath import layout
from kubypass.datapath.adoption import Contents
from kubypass.datapath.changes import Changes
from kubypass.datapath.identifiers import Capacity
from kubypass.datapath.maglev_tables import is_intact
from kubypass.datapath.mirror import Mirror
from kubypass.datapath.tables import Tables
from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.constants import MAGLEV_CELLS
from kubypass.model.maglev import Maglev
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, BackendState, ServiceFlag
from kubypass.plan.items import EXTERNAL, Item, ItemKey, PlannedBackend, PlannedFrontend
from kubypass.plan.maglev import table_of

SIZES = Capacity(services=32, backends=32, slots=64, maglev=40)
MAGLEV = Maglev(1021, b"twelve bytes")


class Kernel:
    """The maps, as dictionaries; written in the agent's order, looked at after every single write."""

    def __init__(self) -> None:
        self.services: dict[bytes, bytes] = {}
        self.slots = [0] * SIZES.slots
        self.backends = [bytes(layout.BACKEND_SIZE)] * SIZES.backends
        self.source_ranges: set[bytes] = set()
        self.maglev: dict[bytes, bytes] = {}
        self.check_writes = True
        self.mirror = Mirror({}, set(), bytearray(), bytearray())

    def write(self, changes: Changes) -> None:
        self.mirror.note(changes)
        for number, value in changes.backends.items():
            self.backends[number] = value
        for slot, number in changes.slots.items():
            self.slots[slot] = number
            self.check_each()
        self.maglev |= changes.maglev
        self.source_ranges |= changes.source_ranges
        for key, value in changes.services.items():
            self.services[key] = value
            self.check_each()
        for key in changes.removed_services:
            del self.services[key]
        for number in changes.removed_backends:
            if number not in changes.backends:
                self.backends[number] = bytes(layout.BACKEND_SIZE)
        self.source_ranges -= changes.removed_source_ranges
        for key in changes.removed_maglev:
            self.maglev.pop(key, None)
        assert len(self.maglev) <= SIZES.maglev
        self.check()

    def check_each(self) -> None:
        if self.check_writes:
            self.check()

    def check(self) -> None:
        """Whatever a packet finds at any moment is a live backend of the service."""
        for raw in self.services.values():
            service = layout.Service.unpack(raw)
            count = service.backends + service.local_backends
            for at in range(count):
                backend = layout.Backend.unpack(self.backends[self.slots[service.first_slot + at]])
                assert backend.state != BackendState.NONE
                assert backend.service == service.id
            for count, table in zip(
                (service.backends, service.local_backends), self.tables(service), strict=True
            ):
                assert not table or max(table) < count, "a cell leads to a backend of the list"

    def tables(self, service: layout.Service) -> tuple[tuple[int, ...] | None, ...]:
        """The Maglev table of each list, as programs find it; None without one."""
        parts = -(-service.cells // MAGLEV_CELLS)
        found: list[tuple[int, ...] | None] = []
        for first, count in ((0, service.backends), (parts, service.local_backends)):
            keys = [layout.MaglevPart(service.table, first + n).pack() for n in range(parts)]
            values = [layout.MaglevCells.unpack(self.maglev[k]) for k in keys if count]
            raw = b"".join(value.positions for value in values)
            found.append(struct.unpack(f"<{len(raw) // 2}H", raw)[: service.cells] or None)
        return tuple(found)

    def is_as_noted(self) -> bool:
        mirror = self.mirror
        slots = struct.pack(f"<{SIZES.slots}I", *self.slots)
        parts = {key: is_intact(value) for key, value in self.maglev.items()}
        assert mirror.maglev == parts
        return (mirror.services, mirror.source_ranges, mirror.slots, mirror.backends) == (
            self.services,
            self.source_ranges,
            slots[: len(mirror.slots)],
            b"".join(self.backends)[: len(mirror.backends)],
        )

    def damage(self, at: tuple[str, int, int]) -> None:
        """What somebody else may do to a map: an entry is gone, or a slot leads elsewhere."""
        what, which, value = at
        if what == "services" and self.services:
            del self.services[sorted(self.services)[which % len(self.services)]]
        if what == "ranges" and self.source_ranges:
            self.source_ranges.remove(sorted(self.source_ranges)[which % len(self.source_ranges)])
        if what == "slots":
            self.slots[which % SIZES.slots] = value
        if what == "maglev" and self.maglev:
            key = sorted(self.maglev)[which % len(self.maglev)]
            damaged = self.maglev.pop(key)
            if value % 2:
                self.maglev[key] = bytes([damaged[0] ^ 1]) + damaged[1:]
        if what == "backends":
            self.backends[which % SIZES.backends] = bytes(layout.BACKEND_SIZE)

    def adopted(self) -> Tables:
        tables = Tables(SIZES)
        slots = struct.pack(f"<{SIZES.slots}I", *self.slots)
        backends = b"".join(self.backends)
        parts = {key: is_intact(value) for key, value in self.maglev.items()}
        tables.adopt(Contents(self.services, slots, backends, self.source_ranges, parts))
        return tables

    def view(self) -> dict[tuple[bytes, int], View]:
        """Frontend -> its two lists, and what else new connections meet; addresses -> their flags."""
        found: dict[tuple[bytes, int], View] = {}
        for key, raw in self.services.items():
            frontend, service = layout.TransportAddress.unpack(key), layout.Service.unpack(raw)
            if service.flags & ServiceFlag.ADDRESS:
                found[frontend.address, 0] = (service.flags,)
                continue
            middle = service.first_slot + service.backends
            lists = tuple(
                frozenset(self._place(slot) for slot in range(*bounds))
                for bounds in (
                    (service.first_slot, middle),
                    (middle, middle + service.local_backends),
                )
            )
            ranges = [layout.SourceRange.unpack(key) for key in self.source_ranges]
            mine = frozenset((r.bits, r.client) for r in ranges if r.service == service.id)
            tables = self.tables(service)
            found[frontend.address, frontend.port] = (*lists, service.affinity_s, mine, tables)
        return found

    def _place(self, slot: int) -> tuple[bytes, int]:
        backend = layout.Backend.unpack(self.backends[self.slots[slot]])
        return backend.address, backend.port


View = tuple[object, ...]
RANGES = tuple(map(parse_cidr, ("192.0.2.0/24", "0.0.0.0/0", "203.0.113.9/32")))


def item(
    name: str,
    backends: dict[str, int],
    node_port: int = 0,
    affinity_s: int = 0,
    ranges: int = 0,
    lost: bool = False,
    maglev: bool = False,
) -> Item:
    """An item with one external address, which is the same for all items.

    `backends` are addresses with the lists that each is in. `lost`: another service has the port of its ClusterIP.
    """
    key = ItemKey("default", name, "", Protocol.TCP, 4)
    address, number = parse_address(f"10.233.0.{ord(name[0])}"), ord(name[0])
    frontends = [
        PlannedFrontend(address, 80, Protocol.TCP, ServiceFlag.CLUSTER_IP),
        PlannedFrontend(SHARED, number, Protocol.TCP, ServiceFlag.EXTERNAL_IP),
    ]
    if node_port:
        frontend = PlannedFrontend(UNSPECIFIED[4], node_port, Protocol.TCP, ServiceFlag.NODE_PORT)
        frontends.append(frontend)
    planned = sorted(
        PlannedBackend(
            parse_address(a),
            80,
            BackendState.ACTIVE if lists else BackendState.TERMINATING,
            lists,
            1 + lists % 2,
        )
        for a, lists in backends.items()
    )
    gone = tuple(frontends[:lost])
    ranges_ = RANGES[:ranges]
    tables = MAGLEV if maglev else None
    return Item(key, tuple(frontends[lost:]), tuple(planned), affinity_s, ranges_, gone, tables)


SHARED = parse_address("192.0.2.1")


def tables_of(one: Item) -> tuple[tuple[int, ...] | None, ...]:
    lists = [[b for b in one.backends if b.lists & kind] for kind in BackendList]
    if not one.maglev or max(map(len, lists)) < 2:
        return None, None
    return tuple(made(tuple(some)) if some else None for some in lists)


@cache
def made(backends: tuple[PlannedBackend, ...]) -> tuple[int, ...]:
    return table_of(MAGLEV, Protocol.TCP, backends)


def expected(items: list[Item]) -> dict[tuple[bytes, int], View]:
    found: dict[tuple[bytes, int], View] = {}
    for one in items:
        lists = [
            frozenset((b.address, b.port) for b in one.backends if b.lists & kind)
            for kind in BackendList
        ]
        ranges = frozenset((32 + cidr.bits, cidr.network) for cidr in one.source_ranges)
        for frontend in one.frontends:
            tables = tables_of(one) if frontend.flags & EXTERNAL else (None, None)
            found[frontend.address, frontend.port] = (*lists, one.affinity_s, ranges, tables)
            if frontend.address not in UNSPECIFIED.values():
                found[frontend.address, 0] = (frontend.flags | ServiceFlag.ADDRESS,)
        for frontend in one.lost:
            found[frontend.address, 0] = (frontend.flags | ServiceFlag.ADDRESS,)
    return found


def sync(tables: Tables, kernel: Kernel, items: list[Item], *, first: bool = False) -> Changes:
    changes = tables.begin()
    for one in items:
        assert tables.put(one, changes) is None
    for key in set(tables.entries) - {one.key for one in items}:
        tables.remove(key, changes)
    if first:
        tables.finish_adoption(changes)
    kernel.write(changes)
    services = map(layout.Service.unpack, kernel.services.values())
    used = {service.table for service in services if service.cells}
    assert {layout.MaglevPart.unpack(key).table for key in kernel.maglev} == used
    return changes


def build(cluster: dict[str, tuple[Any, ...]]) -> list[Item]:
    return [
        item(name, backends, 30000 + 10 * ord(name) + port if port else 0, *rest)
        for name, (backends, port, *rest) in cluster.items()
    ]
