# SPDX-License-Identifier: Apache-2.0
"""The nodes of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubypass.model.address import Address
from kubypass.model.cidr import Cidr


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that runs pods."""

    name: str
    addresses: tuple[Address, ...]
    """The internal addresses; the primary one of each family comes first."""
    pod_cidrs: tuple[Cidr, ...]
    """The networks of its pods' addresses."""
    names: tuple[str, ...] = ()
    """Host names and DNS names: other names by which people may call it."""
    zone: str = ""
    """The label `topology.kubernetes.io/zone`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    leaving: bool = False
    """Whether the node is being deleted, or an autoscaler is about to do so: load balancers should send nothing new."""
    taints: tuple[str, ...] = ()
    """The keys of its taints, in the object's order."""
    external_addresses: tuple[Address, ...] = ()
    """Where the network outside reaches it."""


@dataclass(frozen=True, slots=True)
class PodRoute:
    """A route that leads to the pods of another node."""

    destination: Cidr
    gateway: Address
    """An address of that node."""
    node: str
    """The name of that node."""
