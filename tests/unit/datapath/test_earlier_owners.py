# SPDX-License-Identifier: Apache-2.0
"""After a restart the maps tell which service had a frontend."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubypass.datapath.adoption import Contents
from kubypass.datapath.earlier_owners import EarlierOwners
from kubypass.datapath.identifiers import Capacity
from kubypass.datapath.mirror import Mirror
from kubypass.datapath.tables import Tables
from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.protocol import Protocol
from kubypass.model.service import ServiceKey
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass.plan.conflicts import Claims, Precedence, Rank
from kubypass.plan.frontend_keys import frontend_key
from kubypass.plan.items import Item, ItemKey, PlannedBackend, PlannedFrontend, ServicePlan

CLUSTER_IP, OUTSIDE = int(ServiceFlag.CLUSTER_IP), int(ServiceFlag.EXTERNAL_IP)
POD = Rank("", Precedence.POD)


def plan(name: str, *frontends: tuple[str, int], backends: Sequence[str] = ()) -> ServicePlan:
    """A service with one port; "node" is a NodePort."""
    planned = tuple(
        PlannedFrontend(
            UNSPECIFIED[4] if at == "node" else parse_address(at),
            port,
            Protocol.TCP,
            OUTSIDE if n else CLUSTER_IP,
        )
        for n, (at, port) in enumerate(frontends)
    )
    targets = tuple(
        PlannedBackend(parse_address(at), 8080, BackendState.ACTIVE) for at in sorted(backends)
    )
    return ServicePlan((Item(ItemKey("default", name, "", Protocol.TCP, 4), planned, targets),))


def written(*plans: ServicePlan) -> Contents:
    """The maps of an agent that served these."""
    tables = Tables(Capacity(1024, 1024, 1024))
    mirror = Mirror({}, set(), bytearray(), bytearray())
    changes = tables.begin()
    for item in (item for planned in plans for item in planned.items):
        assert tables.put(item, changes) is None
    tables.finish_adoption(changes)
    mirror.note(changes)
    return mirror.contents()


def owners(contents: Contents, rows: dict[str, tuple[Rank, ServicePlan]]) -> dict[str, set[int]]:
    """The ports that each one has after a restart with these maps."""
    plans: dict[ServiceKey, ServicePlan | None] = {
        ("default", name): row[1] for name, row in rows.items()
    }
    claims = Claims([parse_address("192.0.2.1")])
    for name, (rank, planned) in rows.items():
        claims.replace(("default", name), planned, rank)
    claims.adopt(EarlierOwners(contents, plans))
    return {
        name: {
            f.port
            for item in claims.settle(("default", name), planned).items
            for f in item.frontends
        }
        for name, (_, planned) in rows.items()
    }


@pytest.mark.parametrize("at", ["203.0.113.7", "2001:db8::7", "node", "192.0.2.1"])
@pytest.mark.parametrize(
    "backends", [(), ("10.244.0.7", "10.244.0.8")], ids=["without backends", "same backends"]
)
def test_the_cluster_address_tells_who_had_it(at: str, backends: tuple[str, ...]) -> None:
    shop = plan("shop", ("10.96.0.1", 80), (at, 30080), backends=backends)
    older = plan("a", ("10.96.0.2", 81), (at, 30080), backends=backends)
    without = plan("a", ("10.96.0.2", 81), backends=backends)
    rows = {"a": (Rank("2020"), older), "shop": (Rank("2024"), shop)}
    assert owners(written(), rows) == {"a": {81, 30080}, "shop": {80}}
    for order in (shop, without), (without, shop):
        assert owners(written(*order), rows) == {"a": {81}, "shop": {80, 30080}}
        assert owners(written(*order), dict(reversed(rows.items()))) == {
            "a": {81},
            "shop": {80, 30080},
        }


def test_backends_do_not_outweigh_frontends() -> None:
    served = plan("shop", ("10.96.0.1", 80), ("203.0.113.7", 443), ("203.0.113.8", 443))
    addresses = ("203.0.113.7", 443), ("203.0.113.8", 443)
    many = [f"10.244.0.{n}" for n in range(7, 17)]
    older = plan("a", ("10.96.0.2", 81), *addresses, backends=many)
    without = plan("a", ("10.96.0.2", 81), backends=many)
    rows = {"a": (Rank("2020"), older), "shop": (Rank("2024"), served)}
    assert owners(written(served, without), rows) == {"a": {81}, "shop": {80, 443}}


def test_backends_tell_whose_host_port_it_was() -> None:
    old = plan("pod/old", ("node", 8080), backends=["10.244.0.7"])
    new = plan("pod/a", ("node", 8080), backends=["10.244.0.8"])
    rows = {"pod/a": (POD, new), "pod/old": (POD, old)}
    assert owners(written(), rows) == {"pod/a": {8080}, "pod/old": set()}
    assert owners(written(old), rows) == {"pod/a": set(), "pod/old": {8080}}


@pytest.mark.parametrize(("first", "second"), [("node", "192.0.2.1"), ("192.0.2.1", "node")])
def test_a_port_everywhere_and_on_one_address(first: str, second: str) -> None:
    shop = plan("shop", ("10.96.0.1", 80), (first, 30080))
    older = plan("a", ("10.96.0.2", 81), (second, 30080))
    rows = {"a": (Rank("2020"), older), "shop": (Rank("2024"), shop)}
    served = [shop, plan("a", ("10.96.0.2", 81), *([("node", 30080)] if second == "node" else []))]
    found = owners(written(*served), rows)
    assert found["shop"] == {80, 30080}
    assert found["a"] == ({81, 30080} if second == "node" else {81})


def test_nobody_is_told_where_the_maps_do_not_know() -> None:
    plans: dict[ServiceKey, ServicePlan | None] = {
        ("default", name): plan(name, (f"10.96.0.{n}", 80), ("203.0.113.7", 443))
        for n, name in enumerate("ab")
    }
    had = EarlierOwners(written(plan("gone", ("10.96.0.9", 80), ("203.0.113.7", 443))), plans)
    key = frontend_key(PlannedFrontend(parse_address("203.0.113.7"), 443, Protocol.TCP, OUTSIDE))
    assert had(key, plans) is None
