# SPDX-License-Identifier: Apache-2.0
"""Services as the datapath sees them: addresses and ports, not selectors or target ports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag

from kubypass.model.address import Address
from kubypass.model.cidr import Cidr
from kubypass.model.protocol import Protocol
from kubypass.model.selector import Selector

ServiceKey = tuple[str, str]
"""Namespace and name."""


class Exposure(Flag):
    """Which of its frontends a service has; external addresses it has in any case."""

    CLUSTER_IP = 1
    NODE_PORT = 2
    LOAD_BALANCER = 4


EXPOSE_ALL = Exposure.CLUSTER_IP | Exposure.NODE_PORT | Exposure.LOAD_BALANCER


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
    external_local: bool = False
    """`externalTrafficPolicy: Local`: clients outside get endpoints of the node that they dial."""
    internal_local: bool = False
    """`internalTrafficPolicy: Local`: the cluster addresses lead to endpoints of the client's node."""
    affinity_s: int = 0
    """`sessionAffinity: ClientIP`: how long a client keeps its endpoint after its last new connection."""
    source_ranges: tuple[Cidr, ...] = ()
    """`loadBalancerSourceRanges`: who may use the load balancer addresses; of a family without any, all may."""
    source_deny: bool = False
    """Annotation `service.cilium.io/src-ranges-policy: deny`: those in `source_ranges` are kept out instead."""
    exposure: Exposure = EXPOSE_ALL
    """Annotation `service.cilium.io/type`."""
    nodes: Selector = ()
    """Annotations `service.cilium.io/node-selector` and `/node`: only nodes with such labels serve it at all."""
    health_check_port: int = 0
    """`healthCheckNodePort`, where it means something: LoadBalancer with `externalTrafficPolicy: Local`."""
    uid: str = ""
    created: str = ""
    """RFC 3339; the older of two services keeps an address that both claim."""

    @property
    def key(self) -> ServiceKey:
        """Namespace and name."""
        return (self.namespace, self.name)
