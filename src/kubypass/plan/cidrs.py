# SPDX-License-Identifier: Apache-2.0
"""Finds overlaps: pod networks of two nodes, and service addresses inside pod networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kubypass.model.address import Address, Family, family, format_address
from kubypass.model.cidr import Cidr, mask
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from kubypass.model.node import Node
    from kubypass.model.service import Service, ServiceKey
    from kubypass.settings.settings import Settings


class PodNetworks:
    """Finds the pod network of an address in a few dictionary lookups."""

    def __init__(self, nodes: Iterable[Node], settings: Settings) -> None:
        self._owners: dict[tuple[Address, int, Family], tuple[Cidr, str]] = {}
        self._lengths: dict[Family, set[int]] = {4: set(), 6: set()}
        self.problems: tuple[Problem, ...] = ()
        """One problem for each pod network that overlaps another node's."""
        for setting, cidrs in settings.pods.pools().items():
            for cidr in cidrs:
                self._add(cidr, f"the setting {setting}")
        found: list[Problem] = []
        claimed: dict[Cidr, str] = {}
        pairs = [(node.name, cidr) for node in nodes for cidr in node.pod_cidrs]
        pairs.sort(key=lambda pair: (pair[1].bits, pair[0], pair[1].network))
        for name, cidr in pairs:
            other = next((c for c in _supernets(cidr) if claimed.get(c, name) != name), None)
            if other is not None:
                found.append(_overlap(name, cidr, claimed[other], other))
            claimed.setdefault(cidr, name)
            self._add(cidr, f"node {name}")
        self.problems = tuple(found)

    def containing(self, address: Address) -> tuple[Cidr, str] | None:
        """The pod network of an address with its owner; None where it is in none."""
        version = family(address)
        for bits in self._lengths[version]:
            found = self._owners.get((mask(address, bits), bits, version))
            if found is not None:
                return found
        return None

    def check_service(self, service: Service) -> tuple[Problem, ...]:
        """Returns a problem for each address of the service that is inside a pod network."""
        found: list[Problem] = []
        for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips):
            inside = self.containing(address)
            if inside is not None:
                found.append(
                    Problem(
                        f"Service {service.namespace}/{service.name}",
                        f"{format_address(address)} is inside {inside[0]} of {inside[1]}; "
                        "expected services outside of pod networks; move one of them",
                    )
                )
        return tuple(found)

    def _add(self, cidr: Cidr, owner: str) -> None:
        self._owners.setdefault((cidr.network, cidr.bits, cidr.family), (cidr, owner))
        self._lengths[cidr.family].add(cidr.bits)


class Overlaps:
    """All overlaps, updated as services change. Changed nodes need a new object."""

    def __init__(
        self, nodes: Iterable[Node], services: Mapping[ServiceKey, Service], settings: Settings
    ) -> None:
        self._networks = PodNetworks(nodes, settings)
        self._services = services
        self._found: dict[ServiceKey, tuple[Problem, ...]] = {}
        self.update(services)

    def update(self, keys: Iterable[ServiceKey]) -> None:
        """Checks these services again."""
        for key in keys:
            service = self._services.get(key)
            found = self._networks.check_service(service) if service else ()
            if found:
                self._found[key] = found
            else:
                self._found.pop(key, None)

    def problems(self) -> tuple[Problem, ...]:
        """The problems of pod networks, then those of services."""
        found = dict(self._found)
        of_services = (problem for _, some in sorted(found.items()) for problem in some)
        return (*self._networks.problems, *of_services)


def _supernets(cidr: Cidr) -> Iterable[Cidr]:
    """The network and all networks that contain it, the smallest first."""
    shift = cidr.bits - cidr.prefix
    for prefix in range(cidr.prefix, -1, -1):
        yield Cidr(mask(cidr.network, prefix + shift), prefix)


def _overlap(name: str, cidr: Cidr, other_name: str, other: Cidr) -> Problem:
    return Problem(
        f"Node {name}",
        f"pod network {cidr} overlaps {other} of node {other_name}; "
        "expected networks apart; change spec.podCIDRs of one of them",
    )
