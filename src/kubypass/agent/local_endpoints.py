# SPDX-License-Identifier: Apache-2.0
"""Counts the endpoints on this node as kube-proxy counts them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kubypass.model.address import Family, family
from kubypass.model.endpoint import Endpoint, EndpointSlice
from kubypass.model.service import Service, ServiceKey, ServicePort
from kubypass.settings.settings import Settings


def count_local_ready(
    service: Service, slices: Iterable[EndpointSlice], node: str, settings: Settings
) -> int:
    """The number of distinct addresses on the node, over all ports; terminating endpoints never count.

    The family with more of them counts: kube-proxy has a server for each family, and a pod with two addresses is one
    endpoint.
    """
    families = {family(ip) for ip in service.cluster_ips}
    return max(
        (
            len(
                {
                    endpoint.address
                    for port in service.ports
                    for endpoint in _endpoints(slices, port, version)
                    if endpoint.is_on(node) and endpoint.ready and not endpoint.terminating
                }
            )
            for version in families
            if settings.network.has_family(version)
        ),
        default=0,
    )


def count_without_local(
    services: Iterable[Service],
    slices: Mapping[ServiceKey, Sequence[EndpointSlice]],
    node: str,
    settings: Settings,
) -> dict[tuple[Family, str], int]:
    """Counts service ports with a Local policy and usable endpoints, but none on the node; by family and policy."""
    policies = ("external", "internal")
    counts = {(version, policy): 0 for version in settings.network.families for policy in policies}
    for service in services:
        local = {
            "external": service.external_local and _is_external(service),
            "internal": service.internal_local,
        }
        if not any(local.values()):
            continue
        for version in {family(ip) for ip in service.cluster_ips}:
            for port in service.ports:
                usable = _endpoints(slices.get(service.key, ()), port, version)
                nodes = [e.is_on(node) for e in usable if e.ready or (e.serving and e.terminating)]
                if not nodes or any(nodes):
                    continue
                for policy in policies:
                    if local[policy] and (version, policy) in counts:
                        counts[version, policy] += 1
    return counts


def _is_external(service: Service) -> bool:
    """Whether clients outside the cluster can reach the service."""
    addresses = service.external_ips or service.load_balancer_ips
    return bool(addresses) or any(port.node_port for port in service.ports)


def _endpoints(
    slices: Iterable[EndpointSlice], port: ServicePort, version: Family
) -> list[Endpoint]:
    """The endpoints of one service port."""
    name = (port.name, port.protocol)
    return [
        endpoint
        for found in slices
        if found.family == version and any(slice_port[:2] == name for slice_port in found.ports)
        for endpoint in found.endpoints
    ]
