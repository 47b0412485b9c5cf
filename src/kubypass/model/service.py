# SPDX-License-Identifier: Apache-2.0
"""Services as the datapath sees them: addresses and ports, not selectors or target ports."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.address import Address
from kubypass.model.protocol import Protocol

ServiceKey = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a service; slices refer to it by name and protocol."""

    name: str
    """Empty for a service with a single unnamed port."""
    protocol: Protocol
    port: int
    """On the cluster, external and load balancer addresses."""
    node_port: int
    """On every node; 0 if there is none."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that has cluster addresses; headless and ExternalName ones never become this."""

    namespace: str
    name: str
    type: str
    """As in `spec.type`: ClusterIP, NodePort or LoadBalancer. Only shown; nothing depends on it."""
    cluster_ips: tuple[Address, ...]
    """At most one of each family, in the object's order."""
    external_ips: tuple[Address, ...]
    load_balancer_ips: tuple[Address, ...]
    """Ingress addresses that nodes answer for: `ipMode` VIP or unset."""
    ports: tuple[ServicePort, ...]
    uid: str = ""
    created: str = ""
    """RFC 3339; the older of two services keeps an address that both claim."""

    @property
    def key(self) -> ServiceKey:
        """Namespace and name."""
        return (self.namespace, self.name)
