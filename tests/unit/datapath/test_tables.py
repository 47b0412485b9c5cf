# SPDX-License-Identifier: Apache-2.0
"""Identifiers, slots and entries: rounds of changes against a plain model of the three maps."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.datapath import layout
from kubypass.datapath.adoption import Contents
from kubypass.datapath.changes import Changes
from kubypass.datapath.identifiers import Capacity
from kubypass.datapath.mirror import Mirror
from kubypass.datapath.tables import Tables
from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, BackendState, ServiceFlag
from kubypass.plan.items import Item, ItemKey, PlannedBackend, PlannedFrontend

SIZES = Capacity(services=32, backends=32, slots=64)


class Kernel:
    """The maps, as dictionaries; written in the agent's order, looked at after every single write."""

    def __init__(self) -> None:
        self.services: dict[bytes, bytes] = {}
        self.slots = [0] * SIZES.slots
        self.backends = [bytes(layout.BACKEND_SIZE)] * SIZES.backends
        self.source_ranges: set[bytes] = set()
        self.check_writes = True
        self.mirror = Mirror({}, set(), bytearray(), bytearray())

    def write(self, changes: Changes) -> None:
        self.mirror.note(changes)
        for number, value in changes.backends.items():
            self.backends[number] = value
        for slot, number in changes.slots.items():
            self.slots[slot] = number
            self.check_each()
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

    def is_as_noted(self) -> bool:
        mirror = self.mirror
        slots = struct.pack(f"<{SIZES.slots}I", *self.slots)
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
        if what == "backends":
            self.backends[which % SIZES.backends] = bytes(layout.BACKEND_SIZE)

    def adopted(self) -> Tables:
        tables = Tables(SIZES)
        slots = struct.pack(f"<{SIZES.slots}I", *self.slots)
        backends = b"".join(self.backends)
        tables.adopt(Contents(self.services, slots, backends, self.source_ranges))
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
            found[frontend.address, frontend.port] = (*lists, service.affinity_s, mine)
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
            parse_address(a), 80, BackendState.ACTIVE if lists else BackendState.TERMINATING, lists
        )
        for a, lists in backends.items()
    )
    gone = tuple(frontends[:lost])
    return Item(
        key, tuple(frontends[lost:]), tuple(planned), affinity_s, RANGES[:ranges], lost=gone
    )


SHARED = parse_address("192.0.2.1")


def expected(items: list[Item]) -> dict[tuple[bytes, int], View]:
    found: dict[tuple[bytes, int], View] = {}
    for one in items:
        lists = [
            frozenset((b.address, b.port) for b in one.backends if b.lists & kind)
            for kind in BackendList
        ]
        ranges = frozenset((32 + cidr.bits, cidr.network) for cidr in one.source_ranges)
        for frontend in one.frontends:
            found[frontend.address, frontend.port] = (*lists, one.affinity_s, ranges)
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
    return changes


BACKENDS = st.dictionaries(
    st.sampled_from([f"10.0.0.{n}" for n in range(1, 7)]), st.integers(0, 3), max_size=4
)
CLUSTERS = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(
        BACKENDS, st.integers(0, 2), st.sampled_from([0, 60]), st.integers(0, 3), st.booleans()
    ),
    max_size=3,
)


def build(cluster: dict[str, tuple[Any, ...]]) -> list[Item]:
    return [
        item(name, backends, 30000 + 10 * ord(name) + port if port else 0, *rest)
        for name, (backends, port, *rest) in cluster.items()
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CLUSTERS, st.booleans()), min_size=1, max_size=8))
def test_any_sequence_of_changes_and_restarts_ends_in_what_is_planned(
    rounds: list[tuple[dict[str, tuple[Any, ...]], bool]],
) -> None:
    kernel = Kernel()
    tables = kernel.adopted()
    first = True
    for cluster, restart in rounds:
        items = build(cluster)
        sync(tables, kernel, items, first=first)
        first = False
        assert kernel.view() == expected(items)
        assert kernel.is_as_noted()
        if restart:
            tables = kernel.adopted()
            assert not len(sync(tables, kernel, items, first=True)), "a restart writes nothing"


DAMAGE = st.tuples(
    st.sampled_from(["services", "ranges", "slots", "backends"]),
    st.integers(0, 15),
    st.integers(0, SIZES.backends - 1),
)


@settings(max_examples=150, deadline=None)
@given(CLUSTERS, CLUSTERS, st.lists(DAMAGE, min_size=1, max_size=4))
def test_maps_that_somebody_else_has_changed_are_put_right(
    before: dict[str, tuple[Any, ...]],
    cluster: dict[str, tuple[Any, ...]],
    damages: list[tuple[str, int, int]],
) -> None:
    kernel = Kernel()
    sync(kernel.adopted(), kernel, build(before), first=True)
    for damage in damages:
        kernel.damage(damage)
    kernel.check_writes = False
    items = build(cluster)
    sync(kernel.adopted(), kernel, items, first=True)
    assert kernel.view() == expected(items)
    kernel.check()
    assert not len(sync(kernel.adopted(), kernel, items, first=True))


def test_a_change_while_the_agent_was_away_is_made_good() -> None:
    kernel = Kernel()
    active = BackendList.CLUSTER
    sync(
        kernel.adopted(), kernel, build({"a": ({"10.0.0.1": active}, 1), "b": ({}, 0)}), first=True
    )
    items = build({"a": ({"10.0.0.1": active, "10.0.0.2": active}, 2)})
    changes = sync(kernel.adopted(), kernel, items, first=True)
    assert kernel.view() == expected(items)
    assert len(changes.backends) == 1, "the backend that stayed keeps its identifier"


def test_identifiers_stay_while_the_endpoint_lives() -> None:
    kernel, active = Kernel(), BackendList.CLUSTER
    tables = kernel.adopted()
    sync(tables, kernel, build({"a": ({"10.0.0.1": active, "10.0.0.2": active}, 0)}), first=True)
    (entry,) = tables.entries.values()
    before = dict(zip(entry.item.backends, entry.backend_ids, strict=True))
    sync(tables, kernel, build({"a": ({"10.0.0.2": active, "10.0.0.3": active}, 0)}))
    (entry,) = tables.entries.values()
    after = dict(zip(entry.item.backends, entry.backend_ids, strict=True))
    kept = PlannedBackend(parse_address("10.0.0.2"), 80, BackendState.ACTIVE)
    assert before[kept] == after[kept]


def test_a_full_map_is_a_problem_of_the_service_that_does_not_fit() -> None:
    kernel, active = Kernel(), BackendList.CLUSTER
    tables = kernel.adopted()
    large = item("a", {f"10.0.0.{n}": active for n in range(1, 31)})
    changes = tables.begin()
    assert tables.put(large, changes) is None
    problem = tables.put(item("b", {"10.0.1.1": active, "10.0.1.2": active}), changes)
    assert problem
    assert "bpf-lb-service-backend-map-max" in problem.message
    assert tables.put(item("c", {"10.0.1.1": active}), changes) is None
    kernel.write(changes)
    assert len(kernel.view()) == 4
