# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubypass.model.address import Address, format_address, format_address_port, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.endpoint import Endpoint, EndpointSlice
from kubypass.model.protocol import Protocol
from kubypass.model.selector import parse_selector
from kubypass.model.service import EXPOSE_ALL, Exposure, Service, ServicePort
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass.plan.items import Item, PlanNode
from kubypass.plan.services import plan_service
from kubypass.settings.network import NetworkSettings
from kubypass.settings.services import ServiceSettings
from kubypass.settings.settings import Settings

TCP, UDP = Protocol.TCP, Protocol.UDP
NODE = PlanNode("node1")


def service(*ports: ServicePort, ips: str = "10.96.0.1", **addresses: str) -> Service:
    def read(texts: str) -> tuple[Address, ...]:
        return tuple(parse_address(text) for text in texts.split())

    return Service(
        "default", "web", "ClusterIP", read(ips),
        read(addresses.get("external", "")), read(addresses.get("load_balancer", "")),
        ports or (ServicePort("", TCP, 80, 0),),
    )  # fmt: skip


def endpoint(text: str) -> Endpoint:
    """An address with its state: a word of r(eady), s(erving), t(erminating)."""
    address, _, state = text.partition("=")
    state = state or "rs"
    return Endpoint(parse_address(address), "", "r" in state, "s" in state, "t" in state)


def endpoint_slice(
    *endpoints: str, port: tuple[str, Protocol, int] = ("", TCP, 8080), family: int = 4
) -> EndpointSlice:
    found = tuple(map(endpoint, endpoints))
    return EndpointSlice("default", "web-1", "web", family, (port,), found)  # type: ignore[arg-type]


def plan(
    found: Service, *slices: EndpointSlice, settings: Settings | None = None
) -> tuple[Item, ...]:
    return plan_service(found, slices, NODE, settings or Settings()).items


def frontends(item: Item) -> list[tuple[str, int, int]]:
    return [
        (format_address(f.address), f.port, f.flags & ~ServiceFlag.HAS_ENDPOINTS)
        for f in item.frontends
    ]


def backends(item: Item) -> str:
    """The state of each that is not ready follows it, and `!` where it is in no list."""
    marks = {BackendState.ACTIVE: "", BackendState.TERMINATING: "t", BackendState.NOT_READY: "n"}
    return " ".join(
        format_address_port(b.address, b.port) + marks[b.state] + ("" if b.lists else "!")
        for b in item.backends
    )


def check(expected: str, *slices: EndpointSlice, port: ServicePort | None = None) -> None:
    """Backends of a service with one port."""
    (item,) = plan(service(port or ServicePort("", TCP, 80, 0)), *slices)
    assert backends(item) == expected


def test_backends_are_in_order_and_once() -> None:
    check(
        "10.0.0.1:8080 10.0.0.2:8080 10.0.0.10:8080",
        endpoint_slice("10.0.0.10", "10.0.0.2"),
        endpoint_slice("10.0.0.2", "10.0.0.1"),
    )


def test_no_slices_no_backends_but_an_item() -> None:
    check("")


def test_not_ready_is_never_used() -> None:
    check("10.0.0.1:8080n! 10.0.0.2:8080", endpoint_slice("10.0.0.1=s", "10.0.0.2"))
    check("10.0.0.1:8080n!", endpoint_slice("10.0.0.1=s", "10.0.0.2=t"))


def test_terminating_ones_step_in_only_when_none_is_ready() -> None:
    check("10.0.0.1:8080 10.0.0.2:8080t!", endpoint_slice("10.0.0.1", "10.0.0.2=st"))
    check("10.0.0.1:8080n! 10.0.0.2:8080t", endpoint_slice("10.0.0.1=s", "10.0.0.2=st"))


def test_ready_and_terminating_is_ready() -> None:
    check("10.0.0.1:8080", endpoint_slice("10.0.0.1=rst"))


def test_slices_that_disagree() -> None:
    check("10.0.0.1:8080", endpoint_slice("10.0.0.1=st"), endpoint_slice("10.0.0.1=rs"))


def test_ports_bind_by_name_and_protocol() -> None:
    named = ServicePort("http", TCP, 80, 0)
    check("10.0.0.1:8080", endpoint_slice("10.0.0.1", port=("http", TCP, 8080)), port=named)
    check("", endpoint_slice("10.0.0.1", port=("", TCP, 8080)), port=named)
    check("", endpoint_slice("10.0.0.1", port=("http", UDP, 8080)), port=named)


def test_a_named_port_has_another_number_in_another_slice() -> None:
    check(
        "10.0.0.1:81 10.0.0.1:8080",
        endpoint_slice("10.0.0.1", port=("http", TCP, 8080)),
        endpoint_slice("10.0.0.1", port=("http", TCP, 81)),
        port=ServicePort("http", TCP, 80, 0),
    )


def test_frontends_and_their_flags() -> None:
    found = service(
        ServicePort("", TCP, 80, 30080), external="192.0.2.1 192.0.2.2 2001:db8::1",
        load_balancer="192.0.2.2"
    )  # fmt: skip
    (item,) = plan(found)
    both = ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER
    assert frontends(item) == [
        ("10.96.0.1", 80, ServiceFlag.CLUSTER_IP),
        ("192.0.2.1", 80, ServiceFlag.EXTERNAL_IP),
        ("192.0.2.2", 80, both),
        ("0.0.0.0", 30080, ServiceFlag.NODE_PORT),  # noqa: S104
    ]


def test_both_families_are_items_of_their_own() -> None:
    four, six = plan(
        service(ServicePort("", TCP, 80, 30080), ips="10.96.0.1 fd00::1", external="2001:db8::1"),
        endpoint_slice("10.0.0.1"),
        endpoint_slice("fd01::1", family=6),
    )
    assert (four.key.family, backends(four)) == (4, "10.0.0.1:8080")
    assert (six.key.family, backends(six)) == (6, "[fd01::1]:8080")
    assert [row[0] for row in frontends(six)] == ["fd00::1", "2001:db8::1", "::"]


def test_a_family_that_is_off_is_left_out() -> None:
    (item,) = plan(
        service(ips="10.96.0.1 fd00::1"), settings=Settings(network=NetworkSettings(ipv4=False))
    )
    assert item.key.family == 6


def test_replacement_off_means_cluster_ips_only() -> None:
    found = service(ServicePort("", TCP, 80, 30080), external="192.0.2.1")
    for value, count in [("false", 1), ("disabled", 1), ("partial", 2), ("strict", 3), ("true", 3)]:
        (item,) = plan(found, settings=Settings(ServiceSettings(kube_proxy_replacement=value)))
        assert len(item.frontends) == count, value
    (item,) = plan(
        found,
        settings=Settings(ServiceSettings(kube_proxy_replacement="partial", enable_node_port=True)),
    )
    assert len(item.frontends) == 3


FLAGS = {
    "C": ServiceFlag.CLUSTER_IP, "E": ServiceFlag.EXTERNAL_IP, "B": ServiceFlag.LOAD_BALANCER,
    "N": ServiceFlag.NODE_PORT, "l": ServiceFlag.LOCAL, "r": ServiceFlag.SOURCE_RANGES,
    "h": ServiceFlag.HAS_ENDPOINTS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "C E B N"),
        ({"external_local": True}, "C El Bl Nl"),
        ({"internal_local": True}, "Cl E B N"),
        ({"source_ranges": (parse_cidr("192.0.2.0/24"),)}, "C E Br N"),
        ({"source_ranges": (parse_cidr("2001:db8::/64"),)}, "C E B N"),
    ],
    ids=["Cluster", "external Local", "internal Local", "ranges", "ranges of the other family"],
)
def test_what_policies_and_ranges_mean_for_frontends(
    changes: dict[str, Any], expected: str
) -> None:
    found = service(
        ServicePort("", TCP, 80, 30080), external="192.0.2.1", load_balancer="192.0.2.2"
    )
    (item,) = plan(replace(found, **changes))
    flags = ["".join(c for c, flag in FLAGS.items() if f.flags & flag) for f in item.frontends]
    assert " ".join(flags) == expected
    (item,) = plan(replace(found, **changes), endpoint_slice("10.0.0.1=st"))
    assert all(f.flags & ServiceFlag.HAS_ENDPOINTS for f in item.frontends)


def test_load_balancer_addresses_are_let_in_with_the_node() -> None:
    found = replace(service(load_balancer="192.0.2.2"), source_ranges=(parse_cidr("10.1.0.0/16"),))
    for node, expected in [("10.1.0.9", "10.1.0.0/16 192.0.2.2/32"), ("10.2.0.9", "10.1.0.0/16")]:
        me = PlanNode("node1", (parse_address(node),))
        (item,) = plan_service(found, (), me, Settings()).items
        assert " ".join(map(str, item.source_ranges)) == expected


LB = service(external="198.51.100.1", load_balancer="198.51.100.2")
EVERYWHERE = replace(LB, ports=(ServicePort("", TCP, 80, 30080),))
ALL = {"10.96.0.1", "198.51.100.1", "198.51.100.2", "0.0.0.0"}  # noqa: S104 (a NodePort)


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        (EXPOSE_ALL, ALL),
        (Exposure.CLUSTER_IP, {"10.96.0.1", "198.51.100.1"}),
        (Exposure.NODE_PORT, {"0.0.0.0", "198.51.100.1"}),  # noqa: S104
        (Exposure.LOAD_BALANCER, {"198.51.100.2", "198.51.100.1"}),
        (Exposure(0), {"198.51.100.1"}),
    ],
)
def test_exposure(exposure: Exposure, expected: set[str]) -> None:
    (item,) = plan(replace(EVERYWHERE, exposure=exposure))
    assert {address for address, _, _ in frontends(item)} == expected


def test_only_on_some_nodes() -> None:
    found = replace(EVERYWHERE, nodes=parse_selector("zone=a"))
    assert plan_service(found, (), replace(NODE, labels={"zone": "a"}), Settings()).items
    assert not plan_service(found, (), NODE, Settings()).items


@pytest.mark.parametrize(
    ("deny", "all_types", "guarded"),
    [
        (False, False, {"198.51.100.2"}),
        (True, False, {"198.51.100.2"}),
        (False, True, ALL - {"10.96.0.1"}),
        (True, True, ALL - {"10.96.0.1"}),
    ],
)
def test_who_is_kept_out_of_what(*, deny: bool, all_types: bool, guarded: set[str]) -> None:
    ranges = (parse_cidr("203.0.113.0/24"), parse_cidr("2001:db8::/32"))
    found = replace(EVERYWHERE, source_ranges=ranges, source_deny=deny)
    settings = Settings(ServiceSettings(source_ranges_for_all_types=all_types))
    (item,) = plan(found, settings=settings)
    assert item.source_ranges == ranges[:1]
    for address, _, flags in frontends(item):
        wanted = ServiceFlag.SOURCE_RANGES | (ServiceFlag.SOURCE_DENY if deny else 0)
        given = flags & (ServiceFlag.SOURCE_RANGES | ServiceFlag.SOURCE_DENY)
        assert given == (wanted if address in guarded else 0), address


def test_denied_ranges_do_not_grow() -> None:
    """With an allow list the load balancer's own addresses are let in where the node is; here they stay out of it."""
    found = replace(EVERYWHERE, source_ranges=(parse_cidr("192.0.2.0/24"),), source_deny=True)
    me = PlanNode("node1", (parse_address("192.0.2.1"),))
    (item,) = plan_service(found, (), me, Settings()).items
    assert item.source_ranges == found.source_ranges


def test_ranges_without_a_load_balancer_address() -> None:
    found = replace(service(external="198.51.100.1"), source_ranges=(parse_cidr("192.0.2.0/24"),))
    assert not plan(found)[0].source_ranges
    settings = Settings(ServiceSettings(source_ranges_for_all_types=True))
    assert plan(found, settings=settings)[0].source_ranges
