# SPDX-License-Identifier: Apache-2.0
"""Read-only views of the cluster's objects. They stay up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubypass.model.address import format_address
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod
from kubypass.model.node import Node
from kubypass.model.pod import PodMetadata
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mappings are live: they show later changes. Only the source of the objects writes them."""

    services: Mapping[ServiceKey, Service]
    slices: Mapping[ServiceKey, tuple[EndpointSlice, ...]]
    """The slices of each Service by its namespace and name, in order of the slices' names."""
    nodes: Mapping[str, Node]
    problems: tuple[Problem, ...]
    pods: Mapping[ServiceKey, HostPortPod] = field(default_factory=dict)
    """Pods with host ports on any node; all pods if the source was asked for them."""
    pod_metadata: Mapping[ServiceKey, PodMetadata] = field(default_factory=dict)
    """The metadata of this node's pods by namespace and name. Manifest files give none."""

    def names(self) -> dict[str, dict[str, list[str]]]:
        """The addresses of nodes, by each of their names, and of Services. Threads may write meanwhile."""
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
