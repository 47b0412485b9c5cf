# SPDX-License-Identifier: Apache-2.0
"""Annotations of Services, and the status of load balancers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubypass.kube.manifests.parser import EMPTY, Parser
from kubypass.model.address import format_address
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.selector import matches
from kubypass.model.service import EXPOSE_ALL, Exposure, Service

ANY = "0.0.0.0"  # noqa: S104 (an address, not to bind to)


def read(annotations: dict[str, str] | None = None, **fields: Any) -> tuple[Service, str]:
    """The Service, and its problems."""
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}], **fields.pop("spec", {})}
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "annotations": annotations},
        "spec": spec,
        **fields,
    }
    found = Parser().parse("a.json", json.dumps(document).encode(), EMPTY)
    service = found.objects["Service", "default", "web"]
    assert isinstance(service, Service)
    return service, "; ".join(problem.message for problem in found.problems)


@pytest.mark.parametrize(
    ("text", "expected", "problem"),
    [
        (None, "", False),
        ("", "", False),
        ("maglev", "maglev", False),
        ("Random", "random", False),
        ("round-robin", "", True),
    ],
)
def test_algorithm(text: str | None, expected: str, *, problem: bool) -> None:
    found, message = read({} if text is None else {"service.cilium.io/lb-algorithm": text})
    assert found.algorithm == expected
    assert ("service.cilium.io/lb-algorithm" in message) is problem


@pytest.mark.parametrize(
    ("text", "expected", "problem"),
    [
        (None, 1, False),
        ("0", 0, False),
        (" 12 ", 12, False),
        ("65535", 65535, False),
        ("65536", 1, True),
        ("9" * 5000, 1, True),
        ("-1", 1, True),
        ("1.5", 1, True),
        ("\u0663", 1, True),
        ("", 1, True),
    ],
)
def test_weight(text: str | None, expected: int, *, problem: bool) -> None:
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {} if text is None else {"service.cilium.io/weight": text},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    }
    parsed = Parser().parse("a.json", json.dumps(document).encode(), EMPTY)
    found = parsed.objects["EndpointSlice", "default", "web-1"]
    assert isinstance(found, EndpointSlice)
    assert [one.weight for one in found.endpoints] == [expected]
    problems = [str(one) for one in parsed.problems]
    assert bool(problems) is problem
    assert all("web-1" in one and "service.cilium.io/weight" in one for one in problems)


@pytest.mark.parametrize(
    ("text", "expected", "problem"),
    [
        (None, EXPOSE_ALL, False),
        ("LoadBalancer", Exposure.LOAD_BALANCER, False),
        ("NodePort", Exposure.NODE_PORT, False),
        ("ClusterIP", Exposure.CLUSTER_IP, False),
        ("ClusterIP, LoadBalancer", Exposure.CLUSTER_IP | Exposure.LOAD_BALANCER, False),
        ("ExternalIP", Exposure(0), False),
        ("clusterip", EXPOSE_ALL, True),
        ("", EXPOSE_ALL, True),
        ("ClusterIP,", EXPOSE_ALL, True),
        ("ExternalName", EXPOSE_ALL, True),
    ],
)
def test_type(text: str | None, expected: Exposure, *, problem: bool) -> None:
    found, message = read({} if text is None else {"service.cilium.io/type": text})
    assert found.exposure == expected
    assert ("service.cilium.io/type" in message) is problem


@pytest.mark.parametrize(
    ("annotations", "labels", "expected"),
    [
        ({}, {}, True),
        ({"node": "beefy"}, {"service.cilium.io/node": "beefy"}, True),
        ({"node": "beefy"}, {"service.cilium.io/node": "slow"}, False),
        ({"node": "beefy"}, {}, False),
        ({"node": ""}, {"service.cilium.io/node": ""}, True),
        ({"node-selector": "zone in (a,b)"}, {"zone": "b"}, True),
        ({"node-selector": "zone in (a,b)"}, {"zone": "c"}, False),
        ({"node-selector": "zone=a", "node": "x"}, {"zone": "a"}, True),
        ({"node-selector": "zone=a", "node": "x"}, {"service.cilium.io/node": "x"}, False),
    ],
)
def test_nodes(annotations: dict[str, str], labels: dict[str, str], *, expected: bool) -> None:
    found, message = read({f"service.cilium.io/{key}": v for key, v in annotations.items()})
    assert matches(found.nodes, labels) is expected
    assert message == ""


def test_a_selector_that_is_none_selects_every_node() -> None:
    found, message = read(
        {"service.cilium.io/node-selector": "zone in (", "service.cilium.io/node": "x"}
    )
    assert matches(found.nodes, {})
    assert "service.cilium.io/node-selector" in message


@pytest.mark.parametrize(
    ("text", "deny", "problem"),
    [("allow", False, False), ("deny", True, False), ("Deny", True, False), ("block", False, True)],
)
def test_source_ranges_policy(text: str, *, deny: bool, problem: bool) -> None:
    found, message = read({"service.cilium.io/src-ranges-policy": text})
    assert found.source_deny is deny
    assert ("src-ranges-policy" in message) is problem


@pytest.mark.parametrize(
    ("ingress", "expected", "problem"),
    [
        ([], "", ""),
        ([{"ip": "198.51.100.1"}], "198.51.100.1", ""),
        ([{"ip": "198.51.100.1", "ipMode": "VIP"}], "198.51.100.1", ""),
        ([{"ip": "198.51.100.1", "ipMode": "Proxy"}], "", ""),
        ([{"ip": "198.51.100.1", "ipMode": "Router"}], "", "ingress[0].ipMode is 'Router'"),
        ([{"hostname": "lb.example"}], "", ""),
        ([{"hostname": "lb.example", "ip": "198.51.100.1"}], "198.51.100.1", ""),
        ([{"ip": "198.51.100.1"}, {"ip": "2001:db8::1"}], "198.51.100.1 2001:db8::1", ""),
        ([{"ip": "198.51.100.1"}, {"ip": "198.51.100.001"}], "198.51.100.1", ""),
        ([{"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}], "198.51.100.1", ""),
        ([{"ip": "127.0.0.1"}, {"ip": "198.51.100.1"}], "198.51.100.1", "127.0.0.1"),
        ([{"ip": "x"}, {"ip": "198.51.100.1"}], "198.51.100.1", "'x'"),
        (None, "", ""),
    ],
)
def test_ingress(ingress: list[dict[str, str]] | None, expected: str, problem: str) -> None:
    found, message = read(status={"loadBalancer": {"ingress": ingress}})
    assert " ".join(map(format_address, found.load_balancer_ips)) == expected
    assert problem in message
    assert bool(problem) is bool(message)


@pytest.mark.parametrize("text", [ANY, "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1"])
def test_addresses_that_no_service_can_have(text: str) -> None:
    """An external address 0.0.0.0 would serve the port on every address of the node."""
    found, message = read(spec={"externalIPs": [text, "198.51.100.1"]})
    assert list(map(format_address, found.external_ips)) == ["198.51.100.1"]
    assert f"spec.externalIPs has {text}" in message


def test_no_node_ports() -> None:
    found, message = read(
        spec={"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False},
        status={"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
    )
    assert [port.node_port for port in found.ports] == [0]
    assert len(found.load_balancer_ips) == 1
    assert message == ""


@pytest.mark.parametrize(
    ("text", "expected", "problem"),
    [(None, "", False), ("dsr", "dsr", False), ("SNAT", "snat", False), ("ipip", "", True)],
)
def test_the_forwarding_mode(text: str | None, expected: str, problem: bool) -> None:
    service, problems = read({"service.cilium.io/forwarding-mode": text} if text else None)
    assert service.forwarding == expected
    assert bool(problems) == problem
