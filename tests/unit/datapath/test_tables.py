# SPDX-License-Identifier: Apache-2.0
"""Identifiers, slots, tables and entries: rounds of changes against a plain model of the maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.datapath.tables import Tables
from kubypass.model.address import parse_address
from kubypass.model.verdict import BackendList, BackendState
from kubypass.plan.items import PlannedBackend
from tests.unit.datapath.table_model import SIZES, Kernel, build, expected, item, sync

BACKENDS = st.dictionaries(
    st.sampled_from([f"10.0.0.{n}" for n in range(1, 7)]), st.integers(0, 3), max_size=4
)
CLUSTERS = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(
        BACKENDS,
        st.integers(0, 2),
        st.sampled_from([0, 60]),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=3,
)


@settings(max_examples=150)
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
    st.sampled_from(["services", "ranges", "slots", "backends", "maglev"]),
    st.integers(0, 15),
    st.integers(0, SIZES.backends - 1),
)


@settings(max_examples=150)
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
    kept = PlannedBackend(parse_address("10.0.0.2"), 80, BackendState.ACTIVE, weight=2)
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


def test_without_room_for_its_table_a_service_selects_at_random_and_says_so() -> None:
    kernel, active = Kernel(), BackendList.CLUSTER
    tables = Tables(replace(SIZES, maglev=3))
    one, other = (
        item(name, {f"10.0.{n}.{host}": active for host in (1, 2)}, maglev=True)
        for n, name in enumerate("ab")
    )
    for round_ in range(2):
        changes = tables.begin()
        assert tables.put(one, changes) is None
        problem = tables.put(other, changes)
        assert problem, "there is room for one table of two parts"
        assert "bpf-lb-maglev-map-max" in problem.message
        kernel.write(changes)
        assert bool(changes) is (round_ == 0)
    unchosen = replace(other, maglev=None)
    assert kernel.view() == expected([one, unchosen])
    changes = tables.begin()
    tables.remove(one.key, changes)
    kernel.write(changes)
    changes = tables.begin()
    assert tables.put(other, changes) is None, "now there is room"
    kernel.write(changes)
    assert kernel.view() == expected([other])


def test_services_with_the_same_backends_share_a_table() -> None:
    kernel, tables = Kernel(), Tables(SIZES)
    backends = {"10.0.0.1": 1, "10.0.0.2": 1}
    items = [item(name, backends, maglev=True) for name in "ab"]
    assert len(sync(tables, kernel, items).maglev) == 2
    sync(tables, kernel, items[1:])
    assert kernel.view() == expected(items[1:])
    taken_over = [replace(items[1], maglev=None), items[0]]
    sync(tables, kernel, taken_over)  # in one round, one leaves the table and the other takes it
    assert kernel.view() == expected(taken_over)
    items = taken_over
    sync(tables, kernel, [])
    assert not kernel.maglev
