# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.protocol import Protocol
from kubypass.plan.conflicts import Claims, settle_all
from kubypass.plan.items import Item, ItemKey, PlannedFrontend, ServicePlan

TCP = Protocol.TCP


def plan(name: str, *ports: int, address: str = "10.0.0.1") -> ServicePlan:
    """A service with an item for each port."""
    place = UNSPECIFIED[4] if address == "node" else parse_address(address)
    return ServicePlan(
        tuple(
            Item(
                ItemKey("default", name, str(n), TCP, 4),
                (PlannedFrontend(place, port, TCP, 1),),
                (),
            )
            for n, port in enumerate(ports)
        )
    )


def key(name: str) -> tuple[str, str]:
    return ("default", name)


def ports(found: ServicePlan) -> list[int]:
    return [frontend.port for item in found.items for frontend in item.frontends]


def test_the_older_one_keeps_the_frontend() -> None:
    rows = [
        (key("young"), "2024-02-01T00:00:00Z", plan("young", 30080, 30081, address="node")),
        (key("old"), "2024-01-01T00:00:00Z", plan("old", 30080, address="node")),
    ]
    settled = settle_all(rows)
    assert ports(settled[key("old")]) == [30080]
    assert ports(settled[key("young")]) == [30081]
    assert not settled[key("old")].problems
    (problem,) = settled[key("young")].problems
    assert problem.subject == "Service default/young"
    assert "node port 30080/TCP" in problem.message
    assert "default/old" in problem.message
    assert settle_all(reversed(rows)) == settled


def test_names_decide_when_ages_do_not() -> None:
    settled = settle_all([(key("b"), "", plan("b", 80)), (key("a"), "", plan("a", 80))])
    assert ports(settled[key("a")]) == [80]
    assert ports(settled[key("b")]) == []


def test_a_service_does_not_fight_itself() -> None:
    settled = settle_all([(key("a"), "", plan("a", 80, 80))])[key("a")]
    assert ports(settled) == [80]
    assert "two of its ports" in settled.problems[0].message


def test_the_loser_gets_it_when_the_owner_goes() -> None:
    claims = Claims()
    claims.replace(key("a"), plan("a", 80))
    assert claims.replace(key("b"), plan("b", 80)) == set()
    assert claims.replace(key("a"), None) == {key("b")}
    assert ports(claims.settle(key("b"), plan("b", 80))) == [80]
    assert claims.replace(key("a"), plan("a", 80)) == {key("b")}
    assert ports(claims.settle(key("b"), plan("b", 80))) == []


names = st.sampled_from(["a", "b", "c", "d"])
steps = st.lists(
    st.tuples(
        names,
        st.none() | st.lists(st.integers(80, 83), max_size=3),
        st.sampled_from(["", "2023", "2024"]),
    ),
    max_size=20,
)  # fmt: skip


@given(steps)
def test_any_order_of_changes_gives_the_same(changes: list) -> None:
    claims = Claims()
    plans: dict[tuple[str, str], tuple[str, ServicePlan]] = {}
    settled: dict[tuple[str, str], ServicePlan] = {}
    for name, wanted, created in changes:
        found = None if wanted is None else plan(name, *wanted)
        touched = claims.replace(key(name), found, created) | {key(name)}
        if found is None:
            plans.pop(key(name), None)
            settled.pop(key(name), None)
        else:
            plans[key(name)] = (created, found)
        for other in touched & plans.keys():
            settled[other] = claims.settle(other, plans[other][1])
    expected = settle_all([(k, created, found) for k, (created, found) in plans.items()])
    assert settled == expected
