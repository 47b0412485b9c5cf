# SPDX-License-Identifier: Apache-2.0
"""One service with its slices -> its items.

Follows kube-proxy: an item is (namespace, name, port name, protocol), once per family; endpoints
bind by port name and protocol; ready endpoints, or if there is none, those that still serve while
they terminate. NodePorts are planned on the unspecified address, which stands for every address of
the node: `nodeport-addresses` is not applied here. Traffic policies, affinity and topology are not
planned yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.model.address import UNSPECIFIED, Address, Family, family
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass.plan.items import (
    Item,
    ItemKey,
    PlannedBackend,
    PlannedFrontend,
    PlanNode,
    ServicePlan,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubypass.model.endpoint import EndpointSlice
    from kubypass.model.service import Service, ServicePort
    from kubypass.model.settings import Settings

_ACTIVE = BackendState.ACTIVE
_TERMINATING = BackendState.TERMINATING
_CLUSTER_IP = int(ServiceFlag.CLUSTER_IP)
_NODE_PORT = int(ServiceFlag.NODE_PORT)
_EXTERNAL_IP = int(ServiceFlag.EXTERNAL_IP)
_LOAD_BALANCER = int(ServiceFlag.LOAD_BALANCER)


def plan_service(
    service: Service, slices: Sequence[EndpointSlice], node: PlanNode, settings: Settings
) -> ServicePlan:
    """What the service needs on the node; families that are switched off are left out."""
    del node  # Traffic policies will need it; what is planned today is the same on every node.
    items: list[Item] = []
    for cluster_ip in service.cluster_ips:
        version = family(cluster_ip)
        if not settings.has_family(version):
            continue
        usable = [found for found in slices if found.family == version]
        addresses = _addresses(service, cluster_ip, version, settings)
        for port in service.ports:
            key = ItemKey(service.namespace, service.name, port.name, port.protocol, version)
            frontends = _frontends(addresses, port, version, settings)
            items.append(Item(key, frontends, _backends(usable, port)))
    return ServicePlan(tuple(items))


def _addresses(
    service: Service, cluster_ip: Address, version: Family, settings: Settings
) -> dict[Address, int]:
    """Addresses of one family with their flags, the cluster address first."""
    found = {cluster_ip: _CLUSTER_IP}
    if settings.external_services and (service.external_ips or service.load_balancer_ips):
        _add(found, service.external_ips, version, _EXTERNAL_IP)
        _add(found, service.load_balancer_ips, version, _LOAD_BALANCER)
    return found


def _add(
    found: dict[Address, int], addresses: Iterable[Address], version: Family, flag: int
) -> None:
    for address in addresses:
        if family(address) == version:
            found[address] = found.get(address, 0) | flag


def _frontends(
    addresses: dict[Address, int], port: ServicePort, version: Family, settings: Settings
) -> tuple[PlannedFrontend, ...]:
    number, protocol = port.port, port.protocol
    found = [
        PlannedFrontend(address, number, protocol, flags) for address, flags in addresses.items()
    ]
    if port.node_port and settings.node_port:
        found.append(PlannedFrontend(UNSPECIFIED[version], port.node_port, protocol, _NODE_PORT))
    return tuple(found)


def _backends(slices: Iterable[EndpointSlice], port: ServicePort) -> tuple[PlannedBackend, ...]:
    """Of one item. The best state counts where slices disagree about an address and port."""
    ready: set[tuple[Address, int]] = set()
    ending: set[tuple[Address, int]] = set()
    name, protocol = port.name, port.protocol
    for found in slices:
        for slice_port in found.ports:
            if slice_port[0] != name or slice_port[1] != protocol:
                continue
            number = slice_port[2]
            for endpoint in found.endpoints:
                if endpoint.ready:
                    ready.add((endpoint.address, number))
                elif endpoint.serving and endpoint.terminating:
                    ending.add((endpoint.address, number))
    if not ready:
        return tuple([PlannedBackend(address, port, _ACTIVE) for address, port in sorted(ending)])
    if not ending:
        return tuple([PlannedBackend(address, port, _ACTIVE) for address, port in sorted(ready)])
    return tuple(
        [
            PlannedBackend(*place, _ACTIVE if place in ready else _TERMINATING)
            for place in sorted(ready | ending)
        ]
    )
