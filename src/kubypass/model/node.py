# SPDX-License-Identifier: Apache-2.0
"""Nodes of the cluster."""

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
    """Internal addresses, the primary one of each family first."""
    pod_cidrs: tuple[Cidr, ...]
    """Where the addresses of its pods come from."""
    names: tuple[str, ...] = ()
    """Host names and DNS names: what people may call it besides its name."""
    zone: str = ""
    """Label `topology.kubernetes.io/zone`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    leaving: bool = False
    """It is being deleted, or an autoscaler is about to: load balancers should send nothing new."""
    taints: tuple[str, ...] = ()
    """Their keys, in the object's order."""


@dataclass(frozen=True, slots=True)
class PodRoute:
    """A route that leads to the pods of another node."""

    destination: Cidr
    gateway: Address
    """An address of that node."""
    node: str
    """The name of that node."""
