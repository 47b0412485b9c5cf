# SPDX-License-Identifier: Apache-2.0
"""The results of planning: items, each of which is one service port in one family, with frontends and backends.

Most are named tuples: a cluster has a hundred thousand of them, and they are sorted and compared as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from kubypass.model.address import Address, Family
from kubypass.model.cidr import Cidr
from kubypass.model.maglev import Maglev
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.service import ServiceKey
from kubypass.model.verdict import BackendList, BackendState, ServiceFlag

EXTERNAL: Final = int(ServiceFlag.NODE_PORT | ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER)
"""The flags of frontends for clients outside."""


class ItemKey(NamedTuple):
    """The name of an item. An item keeps its identifier in the maps while its name stays."""

    namespace: str
    name: str
    port_name: str
    protocol: Protocol
    family: Family

    def __str__(self) -> str:
        port = f":{self.port_name}" if self.port_name else ""
        return f"{self.namespace}/{self.name}{port} ({self.protocol.name}, IPv{self.family})"


class PlannedFrontend(NamedTuple):
    """An address and port that clients connect to. A NodePort has the unspecified address of its family."""

    address: Address
    port: int
    protocol: Protocol
    flags: int
    """Bits of ServiceFlag."""


class PlannedBackend(NamedTuple):
    """An address and port that clients are sent to."""

    address: Address
    port: int
    state: BackendState
    """The state of the endpoint. New connections depend on the lists alone."""
    lists: int = int(BackendList.CLUSTER)
    """Bits of BackendList: the lists that have it. A backend in no list keeps its connections and gets no new ones."""
    weight: int = 1
    """How many cells of a Maglev table it gets, beside others; at least 1."""


@dataclass(frozen=True, slots=True)
class Item:
    """One service port in one family."""

    key: ItemKey
    frontends: tuple[PlannedFrontend, ...]
    backends: tuple[PlannedBackend, ...]
    """Backends in order of address and port, without duplicates."""
    affinity_s: int = 0
    """How long a client keeps its backend; 0 without affinity."""
    source_ranges: tuple[Cidr, ...] = ()
    """Clients that frontends with SOURCE_RANGES let in, or keep out with SOURCE_DENY."""
    lost: tuple[PlannedFrontend, ...] = ()
    """Frontends of its ClusterIP that another service gets. The address remains its ClusterIP."""
    maglev: Maglev | None = None
    """The tables by which external frontends select; None: all frontends select at random."""

    @property
    def on_addresses(self) -> tuple[PlannedFrontend, ...]:
        """Every frontend whose address counts as an address of services."""
        return self.frontends + self.lost


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The items of one service, and what is wrong with it."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    balances: ServiceKey | None = None
    """The service whose load balancer this pod is: what comes to its host ports goes to that service."""


@dataclass(frozen=True, slots=True)
class PlanNode:
    """The node for which services are planned."""

    name: str
    addresses: tuple[Address, ...] = ()
    """The primary address of each family."""
    zone: str = ""
    local_addresses: frozenset[Address] = frozenset()
    """All addresses of the node."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, own: Node | None, primary: Iterable[Address], addresses: Iterable[Address]
    ) -> Self:
        """Makes a node with these addresses; `own` is its Node object, if there is one."""
        zone, labels = (own.zone, own.labels) if own else ("", {})
        return cls(name, tuple(primary), zone, frozenset(addresses), labels)
