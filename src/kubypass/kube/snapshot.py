# SPDX-License-Identifier: Apache-2.0
"""The cluster as far as it is known: read-only views that stay up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubypass.model.address import format_address
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod
from kubypass.model.node import Node
from kubypass.model.pod import PodTraits
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mappings are live: they show later changes too; nobody but their source writes them."""

    services: Mapping[ServiceKey, Service]
    slices: Mapping[ServiceKey, tuple[EndpointSlice, ...]]
    """By namespace and service name, each tuple in order of the slices' names."""
    nodes: Mapping[str, Node]
    problems: tuple[Problem, ...]
    pods: Mapping[ServiceKey, HostPortPod] = field(default_factory=dict)
    """Those with ports of their node (or all, where a source was asked for them), also pods of other nodes."""
    traits: Mapping[ServiceKey, PodTraits] = field(default_factory=dict)
    """Of this node's pods by namespace and name, where an API server tells them."""

    def names(self) -> dict[str, dict[str, list[str]]]:
        """Addresses as text, of nodes by every name that they have, and of services; they may change meanwhile."""
        return {
            "nodes": {
                name: [format_address(address) for address in node.addresses]
                for node in dict(self.nodes).values()
                for name in (*node.names, node.name)
            },
            "services": {
                "/".join(key): [format_address(address) for address in service.cluster_ips]
                for key, service in dict(self.services).items()
            },
        }
