# SPDX-License-Identifier: Apache-2.0
"""Which services are in DSR mode, and what programs are told of other nodes."""

from __future__ import annotations

import pytest

from kubypass.model.address import parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.dsr import DsrPath
from kubypass.model.node import Node
from kubypass.model.protocol import Protocol
from kubypass.model.selector import parse_selector
from kubypass.model.service import Service, ServicePort
from kubypass.model.verdict import DsrDispatch, ServiceFlag
from kubypass.plan.dsr import UNASKED, plan_peers, plan_targets
from kubypass.plan.items import PlanNode
from kubypass.plan.services import plan_service
from kubypass.settings.dsr import DsrSettings
from kubypass.settings.settings import Settings

FAMILIES = ("10.96.0.9", "198.51.100.7", "203.0.113.7")
PORTS = tuple(
    ServicePort(protocol.name, protocol, 80, 30000 + protocol)
    for protocol in (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
)


def service(forwarding: str = "", nodes: str = "") -> Service:
    cluster_ip, external, balancer = map(parse_address, FAMILIES)
    return Service(
        "default", "web", "LoadBalancer", (cluster_ip,), (external,), (balancer,), PORTS,
        forwarding=forwarding, nodes=parse_selector(nodes) if nodes else (),
    )  # fmt: skip


def direct(found: Service, **settings: object) -> set[tuple[str, int]]:
    """Protocols and kinds of frontends in DSR mode."""
    changes = {f"dsr.{name}": value for name, value in settings.items()}
    node = PlanNode("me", labels={"zone": "a"})
    plan = plan_service(found, (), node, Settings().with_values(changes))
    kinds = ServiceFlag.NODE_PORT | ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER
    return {
        (frontend.protocol.name, frontend.flags & (kinds | ServiceFlag.CLUSTER_IP))
        for item in plan.items
        for frontend in item.frontends
        if frontend.flags & ServiceFlag.DSR
    }


def all_of(*protocols: str) -> set[tuple[str, int]]:
    kinds = (ServiceFlag.NODE_PORT, ServiceFlag.EXTERNAL_IP, ServiceFlag.LOAD_BALANCER)
    return {(protocol, int(kind)) for protocol in protocols for kind in kinds}


def test_the_modes() -> None:
    assert direct(service()) == set()
    assert direct(service(), mode="dsr") == all_of("TCP", "UDP")
    assert direct(service(), mode="hybrid") == all_of("TCP")


def test_the_annotation_needs_its_switch() -> None:
    assert direct(service("dsr")) == set()
    assert direct(service("dsr"), annotation=True) == all_of("TCP", "UDP")
    assert direct(service("snat"), annotation=True, mode="dsr") == set()
    assert direct(service("snat"), mode="dsr") == all_of("TCP", "UDP")
    assert direct(service(), annotation=True, mode="hybrid") == all_of("TCP")


def test_a_service_that_some_nodes_do_not_serve() -> None:
    assert direct(service(nodes="zone=a"), mode="dsr") == set()


@pytest.mark.parametrize(("mode", "annotation"), [("dsr", False), ("snat", True)])
def test_it_is_wanted_where_some_service_may_have_it(mode: str, annotation: bool) -> None:
    assert DsrSettings(mode=mode, annotation=annotation).wanted
    assert not DsrSettings().wanted


def node(name: str, last: int) -> Node:
    addresses = tuple(
        map(parse_address, (f"192.168.1.{last}", f"192.168.2.{last}", f"fd00::{last}"))
    )
    return Node(name, addresses, (parse_cidr(f"10.0.{last}.0/24"), parse_cidr(f"fd01:{last}::/64")))


def test_what_programs_are_told() -> None:
    nodes = [node("me", 1), node("other", 2)]
    assert plan_targets(nodes, "me") == tuple(map(parse_address, ("192.168.1.2", "fd00::2")))
    known = DsrPath(DsrDispatch.OPTION, 1500)
    found = plan_peers(nodes, "me", {parse_address("192.168.1.2"): known})
    told = {str(cidr): (peer.path, peer.is_node) for cidr, peer in found.items()}
    assert told == {
        "10.0.2.0/24": (known, False),
        "192.168.1.2/32": (known, True),
        "192.168.2.2/32": (known, True),
        "fd01:2::/64": (UNASKED, False),
        "fd00::2/128": (UNASKED, True),
    }
    ends = {
        cidr.family: {peer.node for to, peer in found.items() if to.family == cidr.family}
        for cidr in found
    }
    assert ends == {4: {parse_address("192.168.1.2")}, 6: {parse_address("fd00::2")}}
