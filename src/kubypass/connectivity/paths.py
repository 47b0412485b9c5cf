# SPDX-License-Identifier: Apache-2.0
"""The paths that are tried: who dials what, and who is to answer. Pure: from addresses to rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from kubypass.connectivity.objects import NAMESPACE, PORT, PORT_OF_NODE, SERVICE_PORT

Protocol = Literal["tcp", "udp", "connect", "dns"]
_TRANSPORTS: tuple[Protocol, ...] = ("tcp", "udp")
_TRIES = 6
"""Connections of a path; with two backends, both are likely to be seen."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node with its two pods. Addresses by family, 4 and 6."""

    letter: str
    node: str
    pod: Mapping[int, str]
    host: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """Where a service answers; NodePorts by protocol."""

    addresses: Mapping[int, str]
    node_ports: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Path:
    """One row."""

    source: str
    """The pod that dials: `pod-a`, or `host-a` for the node itself."""
    what: str
    protocol: Protocol
    host: str
    port: int
    pods: frozenset[str] = frozenset()
    """Who may answer; empty: nobody may, or (connect, dns) it does not matter."""
    tries: int = _TRIES
    client: str = ""
    """The address that the pod is to see; empty: any."""
    silent: bool = False
    """Nobody is to answer."""
    optional: bool = False
    """kube-proxy's modes differ here: it counts where kubypass serves the node."""


def plan_paths(
    places: tuple[Place, ...],
    services: Mapping[str, ServicePlace],
    *,
    has_dns: bool,
    outside: Iterable[tuple[str, int]],
) -> list[Path]:
    """All rows, those between pods first."""
    found: list[Path] = []
    for family in _families(places):
        for place in places:
            found += _between_pods(place, places, family)
        for place in places:
            found += _cluster_ips(place, places, services, family)
            found += _node_ports(place, places, services, family)
            found += _host_ports(place, places, family)
        found += _local_policy(places, services["local"], family)
    for place in places if has_dns else ():
        found.append(
            Path(f"pod-{place.letter}", "DNS, a service's name", "dns", f"all.{NAMESPACE}", 0)
        )
    for host, port in outside:
        for source in (f"pod-{places[0].letter}", f"host-{places[0].letter}"):
            found.append(Path(source, "outside", "connect", host, port, tries=2))
    return found


def _families(places: tuple[Place, ...]) -> list[int]:
    return [family for family in (4, 6) if all(family in place.pod for place in places)]


def _where(place: Place, other: Place) -> str:
    return "own node" if place is other else "other node"


def _between_pods(place: Place, places: tuple[Place, ...], family: int) -> Iterator[Path]:
    for other in places:
        target, answer = other.pod[family], frozenset([f"pod-{other.letter}"])
        for source in (f"pod-{place.letter}", f"host-{place.letter}"):
            if source in answer:
                continue
            client = place.pod[family] if source.startswith("pod") else ""
            for protocol in _TRANSPORTS:
                yield Path(
                    source,
                    f"pod, {_where(place, other)}",
                    protocol,
                    target,
                    PORT,
                    answer,
                    client=client,
                )


def _cluster_ips(
    place: Place, places: tuple[Place, ...], services: Mapping[str, ServicePlace], family: int
) -> Iterator[Path]:
    for source in (f"pod-{place.letter}", f"host-{place.letter}"):
        for protocol in _TRANSPORTS:
            for other in places:
                answer = frozenset([f"pod-{other.letter}"])
                hairpin = source in answer
                what = (
                    "ClusterIP, hairpin" if hairpin else f"ClusterIP, pod on {_where(place, other)}"
                )
                for host in _address(services[f"pod-{other.letter}"], family):
                    yield Path(source, what, protocol, host, SERVICE_PORT, answer)
            everyone = frozenset(f"pod-{other.letter}" for other in places)
            for host in _address(services["all"], family):
                yield Path(source, "ClusterIP, all pods", protocol, host, SERVICE_PORT, everyone)


def _address(service: ServicePlace, family: int) -> list[str]:
    return [service.addresses[family]] if family in service.addresses else []


def _node_ports(
    place: Place, places: tuple[Place, ...], services: Mapping[str, ServicePlace], family: int
) -> Iterator[Path]:
    localhost = {4: "127.0.0.1", 6: "::1"}[family]
    for other in places:
        service = services[f"pod-{other.letter}"]
        if family not in service.addresses:
            continue
        answer, backend = frozenset([f"pod-{other.letter}"]), _where(place, other)
        for protocol in _TRANSPORTS:
            port = service.node_ports[protocol]
            for via in places:
                if family in via.host:
                    what = f"NodePort of {_where(place, via)}, pod on {backend}"
                    for source in (f"pod-{place.letter}", f"host-{place.letter}"):
                        yield Path(source, what, protocol, via.host[family], port, answer)
            what = f"NodePort on localhost, pod on {backend}"
            yield Path(
                f"host-{place.letter}", what, protocol, localhost, port, answer, optional=True
            )


def _host_ports(place: Place, places: tuple[Place, ...], family: int) -> Iterator[Path]:
    """Who serves hostPorts is the pod network's affair; with another than ours they may be missing."""
    for other in places:
        answer = frozenset([f"pod-{other.letter}"])
        for source in (f"pod-{place.letter}", f"host-{place.letter}"):
            what = f"hostPort of {_where(place, other)}"
            for protocol in _TRANSPORTS if family in other.host else ():
                host = other.host[family]
                yield Path(source, what, protocol, host, PORT_OF_NODE, answer, optional=True)


def _local_policy(places: tuple[Place, ...], service: ServicePlace, family: int) -> Iterator[Path]:
    """externalTrafficPolicy: Local. Only `a` has a pod; the node itself may use its own NodePort in any case."""
    first = places[0]
    if family not in service.addresses or any(family not in place.host for place in places):
        return
    answer = frozenset([f"pod-{first.letter}"])
    for protocol in _TRANSPORTS:
        port = service.node_ports[protocol]
        own = "NodePort with policy Local, own node"
        yield Path(f"host-{first.letter}", own, protocol, first.host[family], port, answer)
        for other in places[1:]:
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
