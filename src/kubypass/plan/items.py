# SPDX-License-Identifier: Apache-2.0
"""What planning yields: items (one service port in one family) with their frontends and backends.

Named tuples, because there are a hundred thousand of them and they are sorted and compared as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from kubypass.model.address import Address, Family
from kubypass.model.cidr import Cidr
from kubypass.model.node import Node
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList, BackendState


class ItemKey(NamedTuple):
    """What one load-balanced item is called; it keeps its identifier as long as this stays."""

    namespace: str
    name: str
    port_name: str
    protocol: Protocol
    family: Family

    def __str__(self) -> str:
        port = f":{self.port_name}" if self.port_name else ""
        return f"{self.namespace}/{self.name}{port} ({self.protocol.name}, IPv{self.family})"


class PlannedFrontend(NamedTuple):
    """An address that clients dial. NodePorts have the unspecified address of their family."""

    address: Address
    port: int
    protocol: Protocol
    flags: int
    """Bits of ServiceFlag."""


class PlannedBackend(NamedTuple):
    """Where they get to."""

    address: Address
    port: int
    state: BackendState
    """What the endpoint is; new connections go by the lists."""
    lists: int = int(BackendList.CLUSTER)
    """Bits of BackendList: from which lists new connections get it. None: it keeps those that it has."""


@dataclass(frozen=True, slots=True)
class Item:
    """One service port in one family."""

    key: ItemKey
    frontends: tuple[PlannedFrontend, ...]
    backends: tuple[PlannedBackend, ...]
    """In order of address and port, no two alike."""
    affinity_s: int = 0
    """How long a client keeps its backend; 0: it does not."""
    source_ranges: tuple[Cidr, ...] = ()
    """Clients that frontends with SOURCE_RANGES let in (or, with SOURCE_DENY, keep out)."""
    lost: tuple[PlannedFrontend, ...] = ()
    """Those of its ClusterIP that another service has; the address is its ClusterIP all the same."""

    @property
    def on_addresses(self) -> tuple[PlannedFrontend, ...]:
        """What tells which addresses are services'."""
        return self.frontends + self.lost


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What one service needs."""

    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanNode:
    """The node that is planned for."""

    name: str
    addresses: tuple[Address, ...] = ()
    """The primary one of each family."""
    zone: str = ""
    local_addresses: frozenset[Address] = frozenset()
    """All that it has."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, own: Node | None, primary: Iterable[Address], addresses: Iterable[Address]
    ) -> Self:
        """A node with these addresses; `own` is its Node object, where there is one."""
        zone, labels = (own.zone, own.labels) if own else ("", {})
        return cls(name, tuple(primary), zone, frozenset(addresses), labels)
