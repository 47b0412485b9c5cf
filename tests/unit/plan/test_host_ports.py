# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from kubypass.model.address import format_address_port, parse_address
from kubypass.model.host_port import HostPort, HostPortPod
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, ServiceFlag
from kubypass.plan.host_ports import plan_host_ports, pod_rank
from kubypass.plan.items import PlanNode
from kubypass.settings.network import NetworkSettings
from kubypass.settings.services import ServiceSettings
from kubypass.settings.settings import Settings

NODE = PlanNode(
    "node1", local_addresses=frozenset({parse_address("192.0.2.1"), parse_address("fd00::1")})
)


def pod(host_ip: str | None = None, addresses: str = "10.0.0.1 fd01::1") -> HostPortPod:
    address = parse_address(host_ip) if host_ip else None
    found = tuple(map(parse_address, addresses.split()))
    return HostPortPod(
        "default", "web", "node1", found, (HostPort(address, 80, Protocol.TCP, 8080),)
    )


@pytest.mark.parametrize(
    ("host_ip", "addresses", "expected"),
    [
        (None, "10.0.0.1 fd01::1", "0.0.0.0:80>10.0.0.1:8080 [::]:80>[fd01::1]:8080"),
        (None, "10.0.0.1", "0.0.0.0:80>10.0.0.1:8080"),
        (None, "", ""),
        ("0.0.0.00", "10.0.0.1 fd01::1", "0.0.0.0:80>10.0.0.1:8080"),
        ("::", "10.0.0.1 fd01::1", "[::]:80>[fd01::1]:8080"),
        ("192.0.2.1", "10.0.0.1 fd01::1", "192.0.2.1:80>10.0.0.1:8080"),
        ("fd00::1", "10.0.0.1 fd01::1", "[fd00::1]:80>[fd01::1]:8080"),
        ("fd00::1", "10.0.0.1", ""),
        ("127.0.0.1", "10.0.0.1", "127.0.0.1:80>10.0.0.1:8080"),
        ("::1", "fd01::1", "[::1]:80>[fd01::1]:8080"),
    ],
)
def test_frontends_and_backends(host_ip: str | None, addresses: str, expected: str) -> None:
    found = plan_host_ports(pod(host_ip, addresses), NODE, Settings())
    assert not found.problems
    rows = []
    for item in found.items:
        (frontend,), (backend,) = item.frontends, item.backends
        assert frontend.flags == ServiceFlag.HOST_PORT | ServiceFlag.HAS_ENDPOINTS
        assert backend.lists == BackendList.CLUSTER
        ends = (format_address_port(*frontend[:2]), format_address_port(*backend[:2]))
        rows.append(">".join(ends))
    assert " ".join(rows) == expected


def test_another_machines_address_is_not_taken() -> None:
    found = plan_host_ports(pod("198.51.100.1"), NODE, Settings())
    assert not found.items
    assert found.problems[0].subject == "Pod default/web"
    assert "198.51.100.1:80/TCP is not on an address of this node" in found.problems[0].message


def test_pods_of_other_nodes_and_switched_off() -> None:
    assert not plan_host_ports(replace(pod(), node="node2"), NODE, Settings()).items
    for settings, served in (
        (Settings(ServiceSettings(kube_proxy_replacement="false")), 0),
        (Settings(ServiceSettings(kube_proxy_replacement="partial")), 0),
        (Settings(ServiceSettings(kube_proxy_replacement="partial", enable_host_port=True)), 2),
        (Settings(ServiceSettings(kube_proxy_replacement="strict")), 2),
        (Settings(network=NetworkSettings(ipv6=False)), 1),
    ):
        assert len(plan_host_ports(pod(), NODE, settings).items) == served


def test_each_port_has_a_name_of_its_own() -> None:
    addresses = [None, "192.0.2.1", "127.0.0.1"]
    ports = [
        HostPort(parse_address(a) if a else None, 80, protocol, 8080)
        for a in addresses
        for protocol in Protocol
    ]
    found = plan_host_ports(replace(pod(), ports=tuple(ports)), NODE, Settings())
    keys = [item.key for item in found.items]
    assert len(keys) == len(set(keys)) == 4 * len(Protocol)


def test_ranks() -> None:
    young = replace(pod(), created="2024-01-02")
    old = replace(pod(), created="2024-01-01")
    key = ("default", "pod/a")
    ordered = [pod_rank(old), pod_rank(young), pod_rank(replace(old, terminating=True))]
    assert sorted(ordered, key=lambda rank: rank.of(key)) == ordered
