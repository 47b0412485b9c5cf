# SPDX-License-Identifier: Apache-2.0
"""The objects of a large cluster, as its API server would hold them, and their addresses.

Nodes are in 172.20.0.0/16. Each has 512 pod addresses from 10.128.0.0 on. Services are in 10.96.0.0/16. Endpoints are
spread over the nodes. The generation of a slice selects one of two addresses for its first endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from kubypass.errors import ConfigError
from kubypass_lab.bench.cluster import Object, named_service, named_slice

SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.128.0.0/12"
NODE_PREFIX = 16
GATEWAY = IPv4Address("172.20.0.1")
LIVE_ADDRESS = "10.96.0.100"
BACKENDS = ("203.0.113.9", "203.0.113.10")
"""The backends of the live service. They really exist, and one at a time is its endpoint."""
BACKEND_PORT = 8080
_NODES = int(GATEWAY) + 1
_PODS = int(IPv4Address("10.128.0.0"))
_SERVICES = int(IPv4Address("10.96.1.0"))
_PODS_OF_NODE = 512
_MOST = {"nodes": 2000, "services": 60000, "endpoints": 250}


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a cluster; `endpoints` counts those of each service."""

    nodes: int
    services: int
    endpoints: int

    def check(self) -> None:
        """Check the size. ConfigError: there are too few addresses."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ConfigError(f"--{name} {value}: expected 1 to {most}")
        per_node = -(-self.services * self.endpoints // self.nodes)
        if per_node > _PODS_OF_NODE // 2 - 2:
            most = _PODS_OF_NODE // 2 - 2
            raise ConfigError(
                f"--nodes {self.nodes}: {per_node} endpoints on each, expected at most {most}",
                "more nodes, or fewer services or endpoints",
            )


def node_name(number: int) -> str:
    """The name of a numbered node."""
    return f"node-{number:04}"


def node_address(number: int) -> IPv4Address:
    """The address of a numbered node."""
    return IPv4Address(_NODES + number)


def node(number: int) -> Object:
    """A Node as its kubelet registers it."""
    name = node_name(number)
    pods = f"{IPv4Address(_PODS + number * _PODS_OF_NODE)}/23"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
            },
        },
        "spec": {"podCIDR": pods, "podCIDRs": [pods]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": str(node_address(number))},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def service(number: int) -> Object:
    """A ClusterIP service with one port."""
    return named_service(f"service-{number}", str(IPv4Address(_SERVICES + number)))


def numbered_slice(size: Size, number: int, generation: int = 0) -> Object:
    """The slice of a numbered service."""
    numbers = range(number * size.endpoints, (number + 1) * size.endpoints)
    addresses = [
        _pod_address(size, index, other=bool(generation % 2) and index == numbers.start)
        for index in numbers
    ]
    made = named_slice(f"service-{number}", addresses, BACKEND_PORT)
    made["endpoints"] = [
        _endpoint(size, index, address) for index, address in zip(numbers, addresses, strict=True)
    ]
    return made


def _pod_address(size: Size, place: int, *, other: bool) -> str:
    number, index = place % size.nodes, place // size.nodes
    half = _PODS_OF_NODE // 2 if other else 0
    return str(IPv4Address(_PODS + number * _PODS_OF_NODE + half + 1 + index))


def _endpoint(size: Size, place: int, address: str) -> Object:
    """An endpoint as the EndpointSlice controller writes it for a pod."""
    identifier = f"00000000-0000-4000-8000-{int(IPv4Address(address)):012x}"
    return {
        "addresses": [address],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": node_name(place % size.nodes),
        "targetRef": {
            "kind": "Pod",
            "namespace": "default",
            "name": f"pod-{address.replace('.', '-')}",
            "uid": identifier,
        },
    }


def live_service() -> Object:
    """The service to which the client connects."""
    return named_service("live", LIVE_ADDRESS)


def live_slice(backend: str) -> Object:
    """The slice of the live service, with its only endpoint."""
    return named_slice("live", [backend], BACKEND_PORT)
