# SPDX-License-Identifier: Apache-2.0
"""Endpoints of a service, in slices as the cluster publishes them."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.address import Address, Family
from kubypass.model.protocol import Protocol

SlicePort = tuple[str, Protocol, int]
"""Name of the service port, protocol, and the number on the endpoints."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a service, usually a pod's."""

    address: Address
    node: str
    """Empty if the slice does not say: then it counts as remote."""
    ready: bool
    serving: bool
    terminating: bool
    zones: tuple[str, ...] = ()
    """`hints.forZones`"""
    nodes: tuple[str, ...] = ()
    """`hints.forNodes`"""

    def is_on(self, node: str) -> bool:
        """Whether it is known to be on this node."""
        return bool(self.node) and self.node == node


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Every endpoint serves every port of its slice; a service has any number of slices."""

    namespace: str
    name: str
    service: str
    """Name of the service, in the same namespace."""
    family: Family
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
