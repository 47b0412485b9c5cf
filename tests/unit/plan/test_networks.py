# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from kubypass.model.address import format_address, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServicePort
from kubypass.plan.cidrs import Overlaps
from kubypass.plan.items import PlanNode
from kubypass.plan.routes import plan_routes
from kubypass.settings.network import NetworkSettings
from kubypass.settings.pods import PodSettings
from kubypass.settings.routing import RoutingSettings
from kubypass.settings.settings import Settings

DIRECT = Settings(routing=RoutingSettings(direct_node_routes=True))


def node(name: str, addresses: str, cidrs: str) -> Node:
    return Node(
        name, tuple(map(parse_address, addresses.split())), tuple(map(parse_cidr, cidrs.split()))
    )


def service(ips: str) -> Service:
    addresses = tuple(map(parse_address, ips.split()))
    return Service(
        "default", "web", "ClusterIP", addresses, (), (), (ServicePort("", Protocol.TCP, 80, 0),)
    )


NODES = [
    node("node2", "192.168.1.32 fd01::2", "10.233.65.0/24 fd02:0:0:2::/64"),
    node("node1", "192.168.1.31 fd01::1", "10.233.64.0/24 fd02:0:0:1::/64"),
]


def check_cidrs(
    nodes: Iterable[Node], services: Iterable[Service], settings: Settings
) -> tuple[Problem, ...]:
    return Overlaps(nodes, {found.key: found for found in services}, settings).problems()


def test_routes_to_the_others() -> None:
    routes, problems = plan_routes(NODES, PlanNode("node1"), DIRECT)
    assert [(str(r.destination), format_address(r.gateway), r.node) for r in routes] == [
        ("10.233.65.0/24", "192.168.1.32", "node2"),
        ("fd02:0:0:2::/64", "fd01::2", "node2"),
    ]
    assert not problems


def test_no_routes_unless_asked_for() -> None:
    assert plan_routes(NODES, PlanNode("node1"), Settings()) == ((), ())


def test_a_family_that_is_off_has_no_routes() -> None:
    routes, _ = plan_routes(
        NODES, PlanNode("node1"), dataclasses.replace(DIRECT, network=NetworkSettings(ipv6=False))
    )
    assert [r.destination.family for r in routes] == [4]


def test_a_node_without_an_address_of_the_family() -> None:
    peer = node("node3", "192.168.1.33", "10.233.66.0/24 fd02:0:0:3::/64")
    routes, (problem,) = plan_routes([peer], PlanNode("node1"), DIRECT)
    assert [str(r.destination) for r in routes] == ["10.233.66.0/24"]
    assert problem.subject == "Node node3"
    assert "no IPv6 InternalIP" in problem.message


def test_networks_apart_are_no_problem() -> None:
    assert check_cidrs(NODES, [service("10.233.0.1 fd03::1")], Settings()) == ()


def test_a_service_inside_pods() -> None:
    (problem,) = check_cidrs(NODES, [service("10.233.65.7")], Settings())
    assert problem.subject == "Service default/web"
    assert "10.233.65.7 is inside 10.233.65.0/24 of node node2" in problem.message


def test_a_service_inside_the_pool() -> None:
    pool = Settings(pods=PodSettings(ipv4_pools=(parse_cidr("10.0.0.0/8"),)))
    (problem,) = check_cidrs([], [service("10.233.65.7")], pool)
    assert "the setting cluster-pool-ipv4-cidr" in problem.message


def test_nodes_that_overlap() -> None:
    other = node("node3", "192.168.1.33", "10.233.64.128/25")
    same = node("node4", "192.168.1.34", "10.233.65.0/24")
    problems = check_cidrs([*NODES, other, same], [], Settings())
    assert [(p.subject, p.message.partition(";")[0]) for p in problems] == [
        ("Node node4", "pod network 10.233.65.0/24 overlaps 10.233.65.0/24 of node node2"),
        ("Node node3", "pod network 10.233.64.128/25 overlaps 10.233.64.0/24 of node node1"),
    ]


def test_external_addresses_too() -> None:
    found = dataclasses.replace(
        service("10.233.0.1"),
        external_ips=(parse_address("10.233.65.9"),),
        load_balancer_ips=(parse_address("198.51.100.1"), parse_address("fd02:0:0:1::7")),
    )
    first, second = check_cidrs(NODES, [found], Settings())
    assert first.subject == second.subject == "Service default/web"
    assert "10.233.65.9 is inside 10.233.65.0/24 of node node2" in first.message
    assert "fd02:0:0:1::7 is inside fd02:0:0:1::/64 of node node1" in second.message


def test_services_come_and_go() -> None:
    services = {("default", "web"): service("10.233.65.7")}
    overlaps = Overlaps(NODES, services, Settings())
    assert len(overlaps.problems()) == 1
    services["default", "web"] = service("10.233.0.1")
    overlaps.update([("default", "web")])
    assert overlaps.problems() == ()
    services["default", "web"] = service("10.233.65.8")
    overlaps.update([("default", "web"), ("default", "other")])
    assert len(overlaps.problems()) == 1
    del services["default", "web"]
    overlaps.update([("default", "web")])
    assert overlaps.problems() == ()
