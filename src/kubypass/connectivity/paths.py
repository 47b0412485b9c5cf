# SPDX-License-Identifier: Apache-2.0
"""The paths that are tried: who connects to what, and who is expected to answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from kubypass.connectivity.objects import NAMESPACE, PORT, PORT_OF_NODE, SERVICE_PORT

Protocol = Literal["tcp", "udp", "connect", "dns"]
_TRANSPORTS: tuple[Protocol, ...] = ("tcp", "udp")
_TRIES = 6
"""Connections of a path: enough that two backends are both likely to answer."""


@dataclass(frozen=True, slots=True)
class NodePods:
    """A node with the addresses of its two pods, by family (4 and 6)."""

    letter: str
    name: str
    pod: Mapping[int, str]
    host: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """The addresses of a service, and its NodePorts by protocol."""

    addresses: Mapping[int, str]
    node_ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Path:
    """One path: a row of the report."""

    source: str
    """The pod that connects: `pod-a`, or `host-a` for the node itself."""
    what: str
    protocol: Protocol
    host: str
    port: int
    pods: frozenset[str] = frozenset()
    """The pods that may answer; empty if none may, or if it does not matter (connect, dns)."""
    tries: int = _TRIES
    client: str = ""
    """The client address that the pod is expected to see; empty for any."""
    silent: bool = False
    """Whether no answer is expected."""
    optional: bool = False
    """Whether the path counts only where kubypass serves the nodes, because kube-proxy's modes differ."""


def plan_paths(
    nodes: tuple[NodePods, ...],
    services: Mapping[str, ServiceAddresses],
    *,
    has_dns: bool,
    outside: Iterable[tuple[str, int]],
) -> list[Path]:
    """All paths; those between pods come first."""
    found: list[Path] = []
    for family in _families(nodes):
        for node in nodes:
            found += _between_pods(node, nodes, family)
        for node in nodes:
            found += _cluster_ips(node, nodes, services, family)
            found += _node_ports(node, nodes, services, family)
            found += _host_ports(node, nodes, family)
        found += _local_policy(nodes, services["local"], family)
    for node in nodes if has_dns else ():
        found.append(
            Path(f"pod-{node.letter}", "DNS, a service's name", "dns", f"all.{NAMESPACE}", 0)
        )
    for host, port in outside:
        for source in (f"pod-{nodes[0].letter}", f"host-{nodes[0].letter}"):
            found.append(Path(source, "outside", "connect", host, port, tries=2))
    return found


def _families(nodes: tuple[NodePods, ...]) -> list[int]:
    return [family for family in (4, 6) if all(family in node.pod for node in nodes)]


def _where(node: NodePods, other: NodePods) -> str:
    return "own node" if node is other else "other node"


def _between_pods(node: NodePods, nodes: tuple[NodePods, ...], family: int) -> Iterator[Path]:
    for other in nodes:
        target, answer = other.pod[family], frozenset([f"pod-{other.letter}"])
        for source in (f"pod-{node.letter}", f"host-{node.letter}"):
            if source in answer:
                continue
            client = node.pod[family] if source.startswith("pod") else ""
            for protocol in _TRANSPORTS:
                yield Path(
                    source,
                    f"pod, {_where(node, other)}",
                    protocol,
                    target,
                    PORT,
                    answer,
                    client=client,
                )


def _cluster_ips(
    node: NodePods,
    nodes: tuple[NodePods, ...],
    services: Mapping[str, ServiceAddresses],
    family: int,
) -> Iterator[Path]:
    for source in (f"pod-{node.letter}", f"host-{node.letter}"):
        for protocol in _TRANSPORTS:
            for other in nodes:
                answer = frozenset([f"pod-{other.letter}"])
                hairpin = source in answer
                what = (
                    "ClusterIP, hairpin" if hairpin else f"ClusterIP, pod on {_where(node, other)}"
                )
                for host in _address(services[f"pod-{other.letter}"], family):
                    yield Path(source, what, protocol, host, SERVICE_PORT, answer)
            everyone = frozenset(f"pod-{other.letter}" for other in nodes)
            for host in _address(services["all"], family):
                yield Path(source, "ClusterIP, all pods", protocol, host, SERVICE_PORT, everyone)


def _address(service: ServiceAddresses, family: int) -> list[str]:
    return [service.addresses[family]] if family in service.addresses else []


def _node_ports(
    node: NodePods,
    nodes: tuple[NodePods, ...],
    services: Mapping[str, ServiceAddresses],
    family: int,
) -> Iterator[Path]:
    localhost = {4: "127.0.0.1", 6: "::1"}[family]
    for other in nodes:
        service = services[f"pod-{other.letter}"]
        if family not in service.addresses:
            continue
        answer, backend = frozenset([f"pod-{other.letter}"]), _where(node, other)
        for protocol in _TRANSPORTS:
            port = service.node_ports[protocol]
            for via in nodes:
                if family in via.host:
                    what = f"NodePort of {_where(node, via)}, pod on {backend}"
                    for source in (f"pod-{node.letter}", f"host-{node.letter}"):
                        yield Path(source, what, protocol, via.host[family], port, answer)
            what = f"NodePort on localhost, pod on {backend}"
            yield Path(
                f"host-{node.letter}", what, protocol, localhost, port, answer, optional=True
            )


def _host_ports(node: NodePods, nodes: tuple[NodePods, ...], family: int) -> Iterator[Path]:
    """Paths to hostPorts. The pod network serves these, so another network than kubypass' may lack them."""
    for other in nodes:
        answer = frozenset([f"pod-{other.letter}"])
        for source in (f"pod-{node.letter}", f"host-{node.letter}"):
            what = f"hostPort of {_where(node, other)}"
            for protocol in _TRANSPORTS if family in other.host else ():
                host = other.host[family]
                yield Path(source, what, protocol, host, PORT_OF_NODE, answer, optional=True)


def _local_policy(
    nodes: tuple[NodePods, ...], service: ServiceAddresses, family: int
) -> Iterator[Path]:
    """Paths to a service with externalTrafficPolicy: Local, which has a pod on `a` only.

    A node may use its NodePort in any case.
    """
    first = nodes[0]
    if family not in service.addresses or any(family not in node.host for node in nodes):
        return
    answer = frozenset([f"pod-{first.letter}"])
    for protocol in _TRANSPORTS:
        port = service.node_ports[protocol]
        own = "NodePort with policy Local, own node"
        yield Path(f"host-{first.letter}", own, protocol, first.host[family], port, answer)
        for other in nodes[1:]:
            what = "NodePort with policy Local, node with the pod"
            kept = other.host[family]
            yield Path(
                f"host-{other.letter}",
                what,
                protocol,
                first.host[family],
                port,
                answer,
                client=kept,
            )
            what = "NodePort with policy Local, node without"
            yield Path(
                f"host-{first.letter}",
                what,
                protocol,
                other.host[family],
                port,
                tries=1,
                silent=True,
            )
