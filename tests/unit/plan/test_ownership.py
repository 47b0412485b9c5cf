# SPDX-License-Identifier: Apache-2.0
"""Who has a frontend keeps it: nothing that comes later takes an address from a running service."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.model.address import parse_address
from kubypass.model.service import ServiceKey
from kubypass.plan.conflicts import Claims, Precedence, Rank
from kubypass.plan.frontend_keys import FrontendKey, frontend_key
from kubypass.plan.items import ServicePlan
from tests.unit.plan.conflicts import ENDING_POD, NODE_ADDRESS, POD, key, plan, ports

Plans = dict[ServiceKey, tuple[Rank, ServicePlan]]
Settled = dict[ServiceKey, ServicePlan]

AGES = {
    "no creation time": Rank(""),
    "created earlier": Rank("2020-01-01T00:00:00Z"),
    "created in the same second": Rank("2024-01-01T00:00:00Z"),
    "created later": Rank("2030-01-01T00:00:00Z"),
}
RUNNING = Rank("2024-01-01T00:00:00Z")
ADDRESSES = {"an external address": "203.0.113.7", "IPv6": "2001:db8::7", "a node port": "node",
          "one of the node's addresses": NODE_ADDRESS, "loopback": "127.0.0.1"}  # fmt: skip


def start(*rows: tuple[str, Rank, ServicePlan]) -> tuple[Claims, Settled]:
    """The claims of services that come at once, as they are settled."""
    claims = Claims([parse_address(NODE_ADDRESS)])
    for name, rank, planned in rows:
        claims.replace(key(name), planned, rank)
    settled = {key(name): claims.settle(key(name), planned) for name, _, planned in rows}
    claims.commit()
    return claims, settled


def change(claims: Claims, plans: Plans, settled: Settled, name: str) -> None:
    """Brings one service up to date, as a sync does."""
    rank, planned = plans.get(key(name), (Rank(), None))
    touched = claims.replace(key(name), planned, rank) | {key(name)}
    settled.pop(key(name), None)
    settled.update((k, claims.settle(k, plans[k][1])) for k in touched & plans.keys())
    claims.commit()


@pytest.mark.parametrize("rank", AGES.values(), ids=AGES)
@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("name", ["a-thief", "z-thief"])
def test_a_running_service_keeps_its_address(rank: Rank, address: str, name: str) -> None:
    victim, thief = plan("shop", 80, address=address), plan(name, 80, address=address)
    claims, settled = start(("shop", RUNNING, victim))
    plans = {key("shop"): (RUNNING, victim), key(name): (rank, thief)}
    change(claims, plans, settled, name)
    assert ports(settled[key("shop")]) == [80]
    assert not settled[key("shop")].problems
    assert ports(settled[key(name)]) == []
    assert "default/shop's" in settled[key(name)].problems[0].message
    change(claims, plans, settled, name)
    assert ports(settled[key("shop")]) == [80]
    del plans[key("shop")]
    change(claims, plans, settled, "shop")
    assert ports(settled[key(name)]) == [80]


@pytest.mark.parametrize("rank", AGES.values(), ids=AGES)
def test_a_node_port_keeps_the_nodes_addresses(rank: Rank) -> None:
    shop, thief = plan("shop", 30080, address="node"), plan("thief", 30080, address=NODE_ADDRESS)
    claims, settled = start(("shop", RUNNING, shop))
    plans = {key("shop"): (RUNNING, shop), key("thief"): (rank, thief)}
    change(claims, plans, settled, "thief")
    assert not settled[key("shop")].problems
    assert ports(settled[key("thief")]) == []


@pytest.mark.parametrize("rank", AGES.values(), ids=AGES)
def test_an_address_of_the_node_is_kept_from_a_node_port(rank: Rank) -> None:
    shop, late = plan("shop", 30080, address=NODE_ADDRESS), plan("late", 30080, address="node")
    claims, settled = start(("shop", RUNNING, shop))
    plans = {key("shop"): (RUNNING, shop), key("late"): (rank, late)}
    change(claims, plans, settled, "late")
    assert ports(settled[key("shop")]) == [30080]
    assert NODE_ADDRESS in settled[key("late")].problems[0].message


def test_an_address_that_becomes_the_nodes_stays_the_services() -> None:
    shop, other = plan("shop", 30080, address="192.0.2.9"), plan("a", 30080, address="node")
    claims, _ = start(("shop", RUNNING, shop), ("a", Rank("2020"), other))
    claims.set_node_addresses([parse_address("192.0.2.9")])
    assert ports(claims.settle(key("shop"), shop)) == [30080]
    assert "192.0.2.9" in claims.settle(key("a"), other).problems[0].message


def test_a_service_that_changes_keeps_what_it_still_claims() -> None:
    before, after = plan("shop", 80, 81), plan("shop", 82, 80)
    claims, settled = start(
        ("shop", RUNNING, before), ("older", Rank("2020"), plan("older", 81, 82))
    )
    plans = {key("shop"): (RUNNING, after), key("older"): (Rank("2020"), plan("older", 81, 82, 80))}
    change(claims, plans, settled, "older")
    change(claims, plans, settled, "shop")
    assert ports(settled[key("shop")]) == [80]
    assert ports(settled[key("older")]) == [81, 82]


def test_host_ports_are_kept_until_the_pod_ends() -> None:
    old, new = plan("pod/old", 8080, address="node"), plan("pod/a", 8080, address="node")
    claims, settled = start(("pod/old", Rank("2024", Precedence.POD), old))
    plans = {key("pod/old"): (Rank("2024", Precedence.POD), old), key("pod/a"): (POD, new)}
    change(claims, plans, settled, "pod/a")
    assert (ports(settled[key("pod/old")]), ports(settled[key("pod/a")])) == ([8080], [])
    plans[key("pod/old")] = (ENDING_POD, old)
    change(claims, plans, settled, "pod/old")
    assert (ports(settled[key("pod/old")]), ports(settled[key("pod/a")])) == ([], [8080])


def test_of_those_that_come_at_once_one_without_creation_time_is_last() -> None:
    at_once = [("a", Rank(), plan("a", 80)), ("shop", RUNNING, plan("shop", 80))]
    for rows in at_once, at_once[::-1]:
        _, settled = start(*rows)
        assert ports(settled[key("shop")]) == [80]
        assert ports(settled[key("a")]) == []


changes = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "pod/d", "pod/e"]),
        st.none() | st.lists(st.integers(80, 81), min_size=1, max_size=2),
        st.sampled_from(["10.0.0.1", "node", "127.0.0.1", NODE_ADDRESS]),
        st.sampled_from(["", "2023", "2024"]),
    ),
    max_size=14,
)


@given(changes)
@settings(max_examples=400)
def test_nobody_loses_what_it_has_and_a_restart_changes_nothing(
    rows: list[tuple[str, list[int] | None, str, str]],
) -> None:
    claims, settled = start()
    plans: Plans = {}
    for name, wanted, address, created in rows:
        had = {k: _has(found) for k, found in settled.items()}
        if wanted is None:
            plans.pop(key(name), None)
        else:
            kind = Precedence.POD if name.startswith("pod/") else Precedence.SERVICE
            plans[key(name)] = (Rank(created, kind), plan(name, *wanted, address=address))
        change(claims, plans, settled, name)
        for other in had.keys() - {key(name)}:
            if plans[other][0].precedence == Precedence.SERVICE:
                assert had[other] <= _has(settled[other])
    again = Claims([parse_address(NODE_ADDRESS)])
    for k, (rank, planned) in sorted(plans.items(), reverse=True):
        again.replace(k, planned, rank)

    def before(frontend: FrontendKey, claimants: Iterable[ServiceKey]) -> ServiceKey | None:
        return next((k for k in claimants if frontend in _has(settled[k])), None)

    again.adopt(before)
    assert {k: _has(again.settle(k, planned)) for k, (_, planned) in plans.items()} == {
        k: _has(found) for k, found in settled.items()
    }


def _has(found: ServicePlan) -> set[FrontendKey]:
    return {frontend_key(one) for item in found.items for one in item.frontends}
