# SPDX-License-Identifier: Apache-2.0
"""Services, EndpointSlices and Nodes as the model has them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from kubypass.kube.manifests.manifest_source import ManifestSource
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import format_address
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service


def read(
    tmp_path: Path, text: str, *, name: str = "objects.yaml", proxy_name: str = ""
) -> Snapshot:
    (tmp_path / name).write_text(textwrap.dedent(text))
    return ManifestSource(tmp_path, proxy_name=proxy_name).read()


def service(tmp_path: Path, spec: str, extra: str = "") -> tuple[Service | None, tuple[str, ...]]:
    """A Service with this spec (flow style), and its problems."""
    text = f"""
    apiVersion: v1
    kind: Service
    metadata: {{name: web}}
    spec: {spec}
    {extra}
    """
    found = read(tmp_path, text)
    assert all(
        problem.subject == "Service default/web (objects.yaml)" for problem in found.problems
    )
    return found.services.get(("default", "web")), tuple(p.message for p in found.problems)


def ips(addresses: tuple[Any, ...]) -> list[str]:
    return [format_address(address) for address in addresses]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{clusterIP: 10.96.0.1}", ["10.96.0.1"]),
        ("{clusterIP: 172.30.0.041}", ["172.30.0.41"]),
        ("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1']}", ["10.96.0.1"]),
        (
            "{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv6]}",
            ["10.96.0.1", "fd00::1"],
        ),
        ("{clusterIP: 'fd00::1', clusterIPs: ['fd00::1'], ipFamilies: [IPv6, IPv4]}", ["fd00::1"]),
        ("{clusterIP: 10.96.0.1, ipFamilies: [IPv4]}", ["10.96.0.1"]),
    ],
)
def test_cluster_addresses(tmp_path: Path, spec: str, expected: list[str]) -> None:
    found, problems = service(tmp_path, spec)
    assert found is not None
    assert ips(found.cluster_ips) == expected
    assert problems == ()


@pytest.mark.parametrize(
    "spec",
    ["{clusterIP: None}", "{type: ExternalName, externalName: a.example, clusterIP: 10.96.0.1}",
     "{type: ExternalName, externalName: a.example}"],
)  # fmt: skip
def test_services_that_are_none(tmp_path: Path, spec: str) -> None:
    assert service(tmp_path, spec) == (None, ())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}", "spec.clusterIP is missing"),
        ("{clusterIP: 10.96.0.300}", "spec.clusterIP has '10.96.0.300'; expected an IP address"),
        (
            "{clusterIP: 10.96.0.1, clusterIPs: ['fd00::1'], ipFamilies: [IPv4]}",
            "where ipFamilies says IPv4",
        ),
        (
            "{clusterIP: 10.96.0.1, ports: [{port: '80'}]}",
            "Expected `int`, got `str` - at `$.spec.ports[0].port`",
        ),
    ],
)  # fmt: skip
def test_services_that_are_wrong(tmp_path: Path, spec: str, message: str) -> None:
    found, (problem,) = service(tmp_path, spec)
    assert found is None
    assert message in problem


@pytest.mark.parametrize(
    ("ports", "kept", "message"),
    [
        (
            "[{port: 70000}, {port: 80, name: a}]",
            1,
            "spec.ports[0].port is 70000; expected 1 to 65535",
        ),
        ("[{port: 0}]", 0, "spec.ports[0].port is 0"),
        ("[{port: 80, protocol: HTTP}]", 0, "protocol is 'HTTP'; expected TCP, UDP or SCTP"),
        ("[{port: 80, nodePort: 65536}]", 1, "nodePort is 65536"),
        ("[{port: 80}, {port: 81}]", 1, "spec.ports[1] repeats the name ''"),
    ],
)
def test_ports_that_are_wrong(tmp_path: Path, ports: str, kept: int, message: str) -> None:
    found, (problem,) = service(tmp_path, f"{{clusterIP: 10.96.0.1, ports: {ports}}}")
    assert found is not None
    assert len(found.ports) == kept
    assert message in problem


def test_ports(tmp_path: Path) -> None:
    ports = (
        "[{port: 80, name: a, nodePort: 30080, targetPort: x}, {port: 80, name: a, protocol: UDP}]"
    )
    found, _ = service(tmp_path, f"{{clusterIP: 10.96.0.1, ports: {ports}}}")
    assert found is not None
    rows = [(p.name, p.protocol, p.port, p.node_port) for p in found.ports]
    assert rows == [("a", Protocol.TCP, 80, 30080), ("a", Protocol.UDP, 80, 0)]


def test_addresses_for_clients_outside(tmp_path: Path) -> None:
    found, _ = service(
        tmp_path,
        "{clusterIP: 10.96.0.1, type: LoadBalancer, "
        "externalIPs: [192.0.2.01, 192.0.2.1, '2001:db8::1']}",
        "status: {loadBalancer: {ingress: [{ip: 192.0.2.5}, {ip: 192.0.2.6, ipMode: VIP}, "
        "{ip: 192.0.2.7, ipMode: Proxy}, {hostname: lb.example}]}}",
    )
    assert found is not None
    assert ips(found.external_ips) == ["192.0.2.1", "2001:db8::1"]
    assert ips(found.load_balancer_ips) == ["192.0.2.5", "192.0.2.6"]


@pytest.mark.parametrize(
    ("labels", "proxy_name", "kept"),
    [
        ("{}", "", True),
        ("{app: web}", "", True),
        ("{service.kubernetes.io/service-proxy-name: ''}", "", False),
        ("{service.kubernetes.io/service-proxy-name: other}", "", False),
        ("{service.kubernetes.io/headless: ''}", "", False),
        ("{service.kubernetes.io/service-proxy-name: mine}", "mine", True),
        ("{service.kubernetes.io/service-proxy-name: other}", "mine", False),
        ("{app: web}", "mine", False),
    ],
)
def test_labels(tmp_path: Path, labels: str, proxy_name: str, kept: bool) -> None:
    text = f"""
    apiVersion: v1
    kind: Service
    metadata: {{name: web, labels: {labels}}}
    spec: {{clusterIP: 10.96.0.1}}
    """
    assert bool(read(tmp_path, text, proxy_name=proxy_name).services) == kept


def slices(
    tmp_path: Path, rest: str, family: str = "IPv4"
) -> tuple[EndpointSlice, tuple[str, ...]]:
    text = f"""
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}
    addressType: {family}
    {rest}
    """
    found = read(tmp_path, text)
    (only,) = found.slices.get(("default", "web"), (None,))
    return only, tuple(problem.message for problem in found.problems)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("{}", (True, True, False)),
        ("{ready: null, serving: null, terminating: null}", (True, True, False)),
        ("{ready: false}", (False, True, False)),
        ("{ready: false, serving: true, terminating: true}", (False, True, True)),
        ("{ready: true, serving: false}", (True, False, False)),
    ],
)
def test_conditions(tmp_path: Path, conditions: str, expected: tuple[bool, ...]) -> None:
    found, _ = slices(tmp_path, f"endpoints: [{{addresses: [10.0.0.1], conditions: {conditions}}}]")
    (only,) = found.endpoints
    assert (only.ready, only.serving, only.terminating) == expected


def test_endpoints(tmp_path: Path) -> None:
    found, problems = slices(
        tmp_path,
        "endpoints: [{addresses: [10.0.0.1, 10.0.0.9], nodeName: node1}, {addresses: ['fd00::1']}, "
        "{addresses: []}, {addresses: [pod]}, {addresses: [10.0.0.002]}]",
    )
    assert [(format_address(e.address), e.node) for e in found.endpoints] == [
        ("10.0.0.1", "node1"),
        ("10.0.0.2", ""),
    ]
    assert problems[0].split("; ") == [
        "endpoints[1] has fd00::1", "expected an IPv4 address", "left out",
        "endpoints[2] has ''", "expected an IPv4 address", "left out",
        "endpoints[3] has 'pod'", "expected an IPv4 address", "left out",
    ]  # fmt: skip


def test_slice_ports(tmp_path: Path) -> None:
    found, problems = slices(
        tmp_path,
        "ports: [{port: 1}, {name: '', port: 2}, {name: a, port: 0}, {name: a}, "
        "{name: b, port: 3, protocol: UDP}, {name: c, port: 70000}]\n    endpoints: null",
    )
    assert found.ports == (("", Protocol.TCP, 2), ("b", Protocol.UDP, 3))
    (problem,) = problems
    assert problem.startswith('ports[0] has no name; expected one ("" for an unnamed service port)')
    assert problem.endswith("ports[5].port is 70000; expected 1 to 65535; left out")


def test_slices_that_are_none(tmp_path: Path) -> None:
    assert slices(tmp_path, "endpoints: [{addresses: [a.example]}]", "FQDN") == (None, ())
    found, (problem,) = slices(tmp_path, "", "IPX")
    assert found is None
    assert "addressType is 'IPX'; expected IPv4 or IPv6" in problem


def test_nodes(tmp_path: Path) -> None:
    text = """
    apiVersion: v1
    kind: Node
    metadata: {name: node1}
    spec: {podCIDR: 10.0.0.0/24, podCIDRs: [10.0.0.0/24, "fd00::/64", x]}
    status:
      addresses:
      - {type: Hostname, address: node1}
      - {type: ExternalIP, address: 203.0.113.1}
      - {type: InternalIP, address: 192.168.1.31}
      - {type: InternalIP, address: "fd01::1"}
    """
    found = read(tmp_path, text)
    node = found.nodes["node1"]
    assert ips(node.addresses) == ["192.168.1.31", "fd01::1"]
    assert [str(cidr) for cidr in node.pod_cidrs] == ["10.0.0.0/24", "fd00::/64"]
    assert "spec.podCIDRs: 'x' is not a CIDR" in found.problems[0].message
