# SPDX-License-Identifier: Apache-2.0
"""The endpoints of a Service, in slices as the cluster publishes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubypass.model.address import Address, Family
from kubypass.model.annotation import WrongAnnotation
from kubypass.model.protocol import Protocol

SlicePort = tuple[str, Protocol, int]
"""The name of the Service's port, its protocol, and its number on the endpoints."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address behind a Service, usually a pod's."""

    address: Address
    node: str
    """The name of its node; empty if the slice does not say it, and then the endpoint counts as remote."""
    ready: bool
    serving: bool
    terminating: bool
    zones: tuple[str, ...] = ()
    """The zones of `hints.forZones`."""
    nodes: tuple[str, ...] = ()
    """The nodes of `hints.forNodes`."""
    weight: int = 1
    """The weight of its slice. 0: it gets no new connections."""

    def is_on(self, node: str) -> bool:
        """Whether the endpoint is known to be on this node."""
        return bool(self.node) and self.node == node


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """Endpoints that all serve the same ports. A Service has any number of slices."""

    namespace: str
    name: str
    service: str
    """The name of its Service, which is in the same namespace."""
    family: Family
    ports: tuple[SlicePort, ...]
    endpoints: tuple[Endpoint, ...]
    weight: int = 1
    """The annotation `service.cilium.io/weight`."""
    wrong: tuple[WrongAnnotation, ...] = field(default=(), compare=False)
    """Annotations that cannot be read. An object in use has none: it has the last good values."""
