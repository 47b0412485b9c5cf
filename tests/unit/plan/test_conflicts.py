# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.model.address import parse_address
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.conflicts import Claims, Precedence, Rank, settle_all
from kubypass.plan.items import ServicePlan
from tests.unit.plan.conflicts import ENDING_POD, NODE_ADDRESS, POD, key, plan, ports


def test_the_older_one_keeps_the_frontend() -> None:
    rows = [
        (key("young"), Rank("2024-02-01T00:00:00Z"), plan("young", 30080, 30081, address="node")),
        (key("old"), Rank("2024-01-01T00:00:00Z"), plan("old", 30080, address="node")),
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
    settled = settle_all([(key("b"), Rank(), plan("b", 80)), (key("a"), Rank(), plan("a", 80))])
    assert ports(settled[key("a")]) == [80]
    assert ports(settled[key("b")]) == []


def test_a_service_does_not_fight_itself() -> None:
    settled = settle_all([(key("a"), Rank(), plan("a", 80, 80))])[key("a")]
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


CLUSTER_IP, EXTERNAL_IP = int(ServiceFlag.CLUSTER_IP), int(ServiceFlag.EXTERNAL_IP)

# Who has port 80 where: (name, rank, address, what is left of it, whom its problem names)
Row = tuple[str, Rank, str, bool, str]
ACROSS: list[list[Row]] = [
    [("node-port", Rank("1"), "node", True, ""), ("ip", Rank("2"), NODE_ADDRESS, False, "node-port")],
    [("node-port", Rank("2"), "node", True, "ip"), ("ip", Rank("1"), NODE_ADDRESS, True, "")],
    [("node-port", Rank("2"), "node", True, ""), ("ip", Rank("1"), "192.0.2.2", True, "")],
    [("node-port", Rank("2"), "node", True, ""), ("pod/p", POD, "node", False, "node-port")],
    [("node-port", Rank("2"), "node", True, ""), ("pod/p", POD, NODE_ADDRESS, False, "node-port")],
    [("ip", Rank("2"), NODE_ADDRESS, True, ""), ("pod/p", POD, "node", True, "ip")],
    [("node-port", Rank(), "node", True, ""), ("pod/p", POD, "127.0.0.1", False, "node-port")],
    [("pod/a", POD, NODE_ADDRESS, True, ""), ("pod/b", POD, "192.0.2.3", True, "")],
    [("pod/a", ENDING_POD, "node", False, "b"), ("pod/b", POD, "node", True, "")],
    [("pod/a", POD, "node", False, "b"), ("pod/b", Rank("3", Precedence.POD), "node", True, "")],
]  # fmt: skip


@pytest.mark.parametrize("rows", ACROSS)
def test_one_address_of_the_node_against_all(rows: list[Row]) -> None:
    plans = [(key(name), rank, plan(name, 80, address=at)) for name, rank, at, _, _ in rows]
    local = [parse_address(NODE_ADDRESS), parse_address("192.0.2.3")]
    settled = settle_all(plans, local)
    assert settle_all(reversed(plans), local) == settled
    for name, _, _, kept, winner in rows:
        found = settled[key(name)]
        assert ports(found) == [80] * kept
        assert [f"default/{winner}'s" in p.message for p in found.problems] == [True] * bool(winner)


SILENT: list[list[Row]] = [
    [("node-port", Rank("1"), "node", True, ""), ("ip", Rank("2"), NODE_ADDRESS, True, "")],
    [("node-port", Rank("2"), "node", True, ""), ("ip", Rank("1"), NODE_ADDRESS, True, "")],
    [("node-port", Rank("1"), "node", True, ""), ("pod/p", POD, NODE_ADDRESS, True, "")],
    [("pod/old", Rank("2", Precedence.POD), "node", True, ""), ("pod/p", POD, NODE_ADDRESS, False, "old")],
]  # fmt: skip


@pytest.mark.parametrize("rows", SILENT)
def test_a_node_port_has_only_addresses_on_which_it_answers(rows: list[Row]) -> None:
    plans = [(key(name), rank, plan(name, 80, address=at)) for name, rank, at, _, _ in rows]
    silent = parse_address(NODE_ADDRESS)
    settled = settle_all(plans, [silent], lambda address: address != silent)
    for name, _, _, kept, winner in rows:
        found = settled[key(name)]
        assert ports(found) == [80] * kept
        assert [f"default/{winner}'s" in p.message for p in found.problems] == [True] * bool(winner)


def test_pods_are_called_pods() -> None:
    settled = settle_all([
        (key("web"), Rank(), plan("web", 30080, address="node")),
        (key("pod/p"), POD, plan("pod/p", 30080, address="node")),
    ])  # fmt: skip
    (problem,) = settled[key("pod/p")].problems
    assert problem.subject == "Pod default/p"
    assert "node port 30080/TCP" in problem.message
    assert "service default/web's" in problem.message


def test_other_addresses_of_the_node() -> None:
    """What is an address of the node may change."""
    claims = Claims()
    rows = [
        (key("np"), plan("np", 80, address="node")),
        (key("x"), plan("x", 80, address="192.0.2.1")),
    ]
    for name, found in rows:
        claims.replace(name, found)
    assert [ports(claims.settle(*row)) for row in rows] == [[80], [80]]
    claims.set_node_addresses([parse_address("192.0.2.1")])
    assert [ports(claims.settle(*row)) for row in rows] == [[80], []]


def test_an_external_address_that_is_another_services_cluster_address() -> None:
    """Both are served, on their ports."""
    settled = settle_all([
        (key("victim"), Rank("2"), plan("victim", 80, flags=CLUSTER_IP)),
        (key("claimant"), Rank("1"), plan("claimant", 443, flags=EXTERNAL_IP)),
    ])  # fmt: skip
    assert ports(settled[key("victim")]) == [80]
    assert not settled[key("victim")].problems
    assert ports(settled[key("claimant")]) == [443]
    (problem,) = settled[key("claimant")].problems
    assert problem.subject == "Service default/claimant"
    assert "10.0.0.1" in problem.message
    assert "default/victim" in problem.message


def test_a_cluster_address_that_has_lost_its_port_is_one_all_the_same() -> None:
    settled = settle_all([
        (key("victim"), Rank("2"), plan("victim", 80, flags=CLUSTER_IP)),
        (key("claimant"), Rank("1"), plan("claimant", 80, flags=EXTERNAL_IP)),
    ])  # fmt: skip
    (item,) = settled[key("victim")].items
    assert (item.frontends, [f.flags for f in item.lost]) == ((), [CLUSTER_IP])
    (item,) = settled[key("claimant")].items
    assert not item.lost


addresses = st.sampled_from(["10.0.0.1", "node", "127.0.0.1", NODE_ADDRESS])
steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "pod/d"]),
        st.none() | st.lists(st.integers(80, 82), max_size=3),
        addresses,
        st.sampled_from([CLUSTER_IP, EXTERNAL_IP]),
        st.builds(Rank, st.sampled_from(["", "2023"]), st.sampled_from(Precedence)),
    ),
    max_size=20,
)  # fmt: skip


@given(steps)
@settings(max_examples=400)
def test_any_order_of_changes_gives_the_same(changes: list[Any]) -> None:
    local = [parse_address(NODE_ADDRESS)]
    claims = Claims(local)
    plans: dict[tuple[str, str], tuple[Rank, ServicePlan]] = {}
    settled: dict[tuple[str, str], ServicePlan] = {}
    for name, wanted, address, flags, rank in changes:
        found = None if wanted is None else plan(name, *wanted, address=address, flags=flags)
        touched = claims.replace(key(name), found, rank) | {key(name)}
        if found is None:
            plans.pop(key(name), None)
            settled.pop(key(name), None)
        else:
            plans[key(name)] = (rank, found)
        for other in touched & plans.keys():
            settled[other] = claims.settle(other, plans[other][1])
    expected = settle_all([(k, rank, found) for k, (rank, found) in plans.items()], local)
    assert settled == expected


def test_the_example_of_the_module() -> None:
    local = [parse_address("192.0.2.1")]
    pod = ("default", "pod/dns")
    rows = {
        key("vip"): (Rank("2023"), plan("vip", 30080, address="192.0.2.1")),
        key("shop"): (Rank("2024"), plan("shop", 30080, address="node")),
        key("blog"): (Rank("2025"), plan("blog", 30080, address="node")),
        pod: (Rank("2022", Precedence.POD), plan("dns", 30080, address="node")),
    }
    claims = Claims(local)
    for name, (rank, planned) in rows.items():
        claims.replace(name, planned, rank)
    settled = {name: claims.settle(name, planned) for name, (_, planned) in rows.items()}
    assert [name for name, found in settled.items() if ports(found)] == [key("vip"), key("shop")]
    assert [len(found.problems) for found in settled.values()] == [0, 1, 1, 1]
    assert "192.0.2.1:30080/TCP, which is service default/vip's" in str(settled[key("shop")])
    assert claims.replace(key("vip"), None) == {key("shop")}
    assert not claims.settle(key("shop"), rows[key("shop")][1]).problems
    claims.replace(key("vip"), rows[key("vip")][1], rows[key("vip")][0])
    assert claims.replace(key("shop"), None) == {key("blog"), pod, key("vip")}
    assert ports(claims.settle(key("blog"), rows[key("blog")][1])) == [30080]
