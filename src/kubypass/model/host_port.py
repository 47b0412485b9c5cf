# SPDX-License-Identifier: Apache-2.0
"""Pods with host ports: ports of their node that lead to the pod."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.address import Address, format_address_port
from kubypass.model.protocol import Protocol
from kubypass.model.service import ServiceKey


def pod_key(namespace: str, name: str) -> ServiceKey:
    """The key of a pod among Services. No Service has a slash in its name."""
    return (namespace, f"pod/{name}")


def is_pod(key: ServiceKey) -> bool:
    """Whether a key among Services is a pod's."""
    return "/" in key[1]


@dataclass(frozen=True, slots=True)
class HostPort:
    """An entry of `containers[].ports[]` that has a `hostPort`."""

    address: Address | None
    """The `hostIP`; None for every address of the node."""
    port: int
    protocol: Protocol
    container_port: int

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.port}/{self.protocol.name}"
        return format_address_port(self.address, self.port, self.protocol)


@dataclass(frozen=True, slots=True)
class HostPortPod:
    """A pod with host ports that has its own addresses and has not ended."""

    namespace: str
    name: str
    node: str
    addresses: tuple[Address, ...]
    ports: tuple[HostPort, ...]
    """The host ports; no two are alike."""
    terminating: bool = False
    """Whether the pod is being deleted; it then leaves its ports to any other pod that asks for them."""
    created: str = ""
    """The time of creation (RFC 3339). The older of two pods keeps a port that both have."""
    balances: ServiceKey | None = None
    """The Service whose load balancer the pod is on its node, as k3s makes them (`svclb-…`)."""

    @property
    def key(self) -> ServiceKey:
        """The key of the pod among Services."""
        return pod_key(self.namespace, self.name)
