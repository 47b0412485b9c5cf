# SPDX-License-Identifier: Apache-2.0
"""Pods that have ports of their node, as their objects say."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.model.address import Address, format_endpoint
from kubypass.model.protocol import Protocol
from kubypass.model.service import ServiceKey


def pod_key(namespace: str, name: str) -> ServiceKey:
    """How a pod is called among services: none of them has a slash in its name."""
    return (namespace, f"pod/{name}")


def is_pod(key: ServiceKey) -> bool:
    """Whether a name among services is a pod's."""
    return "/" in key[1]


@dataclass(frozen=True, slots=True)
class HostPort:
    """`containers[].ports[]` with a `hostPort`."""

    address: Address | None
    """`hostIP`; None for every address of the node."""
    port: int
    protocol: Protocol
    container_port: int

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.port}/{self.protocol.name}"
        return format_endpoint(self.address, self.port, self.protocol)


@dataclass(frozen=True, slots=True)
class HostPortPod:
    """A pod with such ports that has addresses of its own and has not ended."""

    namespace: str
    name: str
    node: str
    addresses: tuple[Address, ...]
    ports: tuple[HostPort, ...]
    """No two alike."""
    terminating: bool = False
    """It is being deleted: it gives its ports to whoever wants them."""
    created: str = ""
    """RFC 3339; the older of two pods keeps a port that both want."""

    @property
    def key(self) -> ServiceKey:
        """Its name among services."""
        return pod_key(self.namespace, self.name)
