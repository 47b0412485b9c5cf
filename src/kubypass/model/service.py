# SPDX-License-Identifier: Apache-2.0
"""Services as the datapath sees them: addresses and ports, not selectors or target ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Flag

from kubypass.model.address import Address
from kubypass.model.annotation import WrongAnnotation
from kubypass.model.cidr import Cidr
from kubypass.model.protocol import Protocol
from kubypass.model.selector import Selector

ServiceKey = tuple[str, str]
"""Namespace and name."""


class Exposure(Flag):
    """Which of its frontends a Service has. It has its external addresses in any case."""

    CLUSTER_IP = 1
    NODE_PORT = 2
    LOAD_BALANCER = 4


EXPOSE_ALL = Exposure.CLUSTER_IP | Exposure.NODE_PORT | Exposure.LOAD_BALANCER


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. Slices refer to it by name and protocol."""

    name: str
    """The port's name; empty for a Service with a single unnamed port."""
    protocol: Protocol
    port: int
    """The number on the cluster, external and load balancer addresses."""
    node_port: int
    """The number on every node; 0 if there is none."""


@dataclass(frozen=True, slots=True)
class Service:
    """A Service that has cluster addresses. Headless and ExternalName Services never become one."""

    namespace: str
    name: str
    type: str
    """The `spec.type`: ClusterIP, NodePort or LoadBalancer. It is only shown; nothing depends on it."""
    cluster_ips: tuple[Address, ...]
    """At most one of each family, in the object's order."""
    external_ips: tuple[Address, ...]
    load_balancer_ips: tuple[Address, ...]
    """The ingress addresses for which nodes answer: those whose `ipMode` is VIP or unset."""
    ports: tuple[ServicePort, ...]
    external_local: bool = False
    """`externalTrafficPolicy: Local`: clients outside get endpoints on the node that they connect to."""
    internal_local: bool = False
    """`internalTrafficPolicy: Local`: the cluster addresses lead to endpoints of the client's node."""
    affinity_s: int = 0
    """`sessionAffinity: ClientIP`: how long a client keeps its endpoint after its last new connection."""
    source_ranges: tuple[Cidr, ...] = ()
    """`loadBalancerSourceRanges`: who may use the load balancer addresses. In a family without a range, all may."""
    source_deny: bool = False
    """Annotation `service.cilium.io/src-ranges-policy: deny`: clients in `source_ranges` are refused instead."""
    exposure: Exposure = EXPOSE_ALL
    """The annotation `service.cilium.io/type`."""
    algorithm: str = ""
    """The annotation `service.cilium.io/lb-algorithm`, random or maglev; empty: as the settings say."""
    nodes: Selector = ()
    """Annotations `service.cilium.io/node-selector` and `/node`: only nodes with such labels serve the Service."""
    forwarding: str = ""
    """Annotation `service.cilium.io/forwarding-mode`: `snat` or `dsr`; empty: as the settings say."""
    health_check_port: int = 0
    """The `healthCheckNodePort` of a LoadBalancer with `externalTrafficPolicy: Local`; 0 for any other Service."""
    uid: str = ""
    created: str = ""
    """The time of creation (RFC 3339). The older of two Services keeps an address that both claim."""
    wrong: tuple[WrongAnnotation, ...] = field(default=(), compare=False)
    """Annotations that cannot be read. An object in use has none: it has the last good values."""

    @property
    def key(self) -> ServiceKey:
        """Namespace and name."""
        return (self.namespace, self.name)
