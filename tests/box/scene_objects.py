# SPDX-License-Identifier: Apache-2.0
"""Services and their EndpointSlices as the tests write them by hand: what the agents read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

Json = dict[str, object]
SERVERS = ("a1", "b1", "a2", "b2")
ALL = set(SERVERS)
SERVICES_V6 = "fd85:ee78:d8a6:8607::"
EXTERNAL = {
    ("node1", 4): "198.51.100.0/24",
    ("node2", 4): "198.51.101.0/24",
    ("node1", 6): "2001:db8:51::/64",
    ("node2", 6): "2001:db8:52::/64",
}
"""Networks of service addresses, and the node that the network sends them to."""


@dataclass(frozen=True)
class Port:
    """A port of a Service; `target` is the number in its slices."""

    number: int
    target: int
    protocol: str = "TCP"
    name: str = "web"
    node_port: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A server as a slice lists it."""

    server: str
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None


READY = tuple(Endpoint(name) for name in SERVERS)


@dataclass(frozen=True)
class Service:
    """A Service of both families, with its addresses."""

    name: str
    number: int
    ports: tuple[Port, ...]
    spec: Json = field(default_factory=dict)
    labels: Json = field(default_factory=dict)
    ingress: tuple[str, ...] = ()

    def address(self, version: int) -> str:
        """The ClusterIP of a family."""
        return (
            f"10.233.48.{self.number}" if version == 4 else f"{SERVICES_V6}{0x1800 + self.number:x}"
        )

    def external(self, version: int, node: str = "node1") -> str:
        """An address that no machine has; the network routes it to a node."""
        return str(ip_network(EXTERNAL[node, version])[self.number])

    def with_spec(self, **spec: Any) -> Service:
        """A copy with some fields of its spec changed."""
        return replace(self, spec={**self.spec, **spec})


def service_manifest(service: Service) -> Json:
    """What the API would say of a Service."""
    ports = [
        {"name": p.name, "port": p.number, "targetPort": p.target, "protocol": p.protocol}
        | ({"nodePort": p.node_port} if p.node_port else {})
        for p in service.ports
    ]
    addresses = [service.address(4), service.address(6)]
    spec = {
        "type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses,
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "ports": ports,
        **service.spec,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": spec,
        "metadata": {"namespace": "default", "name": service.name, "labels": service.labels},
        "status": {"loadBalancer": {"ingress": [{"ip": each} for each in service.ingress]}},
    }


def slice_manifest(service: Service, version: int, name: str, ports: tuple[Port, ...]) -> Json:
    """A slice of a Service in one family, as yet without endpoints."""
    labels = {"kubernetes.io/service-name": service.name, **service.labels}
    name = f"{service.name}{name}-v{version}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "default", "name": name, "labels": labels},
        "addressType": f"IPv{version}",
        "ports": [{"name": p.name, "protocol": p.protocol, "port": p.target} for p in ports],
    }
