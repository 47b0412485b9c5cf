# SPDX-License-Identifier: Apache-2.0
"""Plans the items of one service from its EndpointSlices.

As in kube-proxy, each port of a service is one item per family, and endpoints bind to it by port name and protocol
(backends.py). A NodePort is planned on the unspecified address, which stands for every address of the node on which
NodePorts answer (settings/node_port_addresses.py).

frontend                policy                  clients
ClusterIP               internalTrafficPolicy   those in the cluster (others with bpf-lb-external-clusterip)
external address        externalTrafficPolicy   all
load balancer's address externalTrafficPolicy   those in loadBalancerSourceRanges of its family; all without any
NodePort                externalTrafficPolicy   all

With bpf-lb-source-range-all-types, the ranges hold for every frontend but the ClusterIP. Annotations can remove kinds
of frontends (`service.cilium.io/type`), or the service from some nodes (`/node`, `/node-selector`).

The datapath decides what the policies mean for each client (bpf/policy.h).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kubypass.model.address import UNSPECIFIED, Address, Family, family
from kubypass.model.cidr import Cidr, host_cidr
from kubypass.model.maglev import Maglev
from kubypass.model.selector import matches
from kubypass.model.service import Exposure
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.backends import is_usable, plan_backends
from kubypass.plan.items import (
    EXTERNAL,
    Item,
    ItemKey,
    PlannedFrontend,
    PlanNode,
    ServicePlan,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubypass.model.endpoint import EndpointSlice
    from kubypass.model.service import Service, ServicePort
    from kubypass.settings.settings import Settings

_CLUSTER_IP = int(ServiceFlag.CLUSTER_IP)
_NODE_PORT = int(ServiceFlag.NODE_PORT)
_EXTERNAL_IP = int(ServiceFlag.EXTERNAL_IP)
_LOAD_BALANCER = int(ServiceFlag.LOAD_BALANCER)
_LOCAL = int(ServiceFlag.LOCAL)
_OUTSIDE = _EXTERNAL_IP | _LOAD_BALANCER
"""Addresses for clients outside."""
_SOURCE_RANGES = int(ServiceFlag.SOURCE_RANGES)
_SOURCE_DENY = int(ServiceFlag.SOURCE_DENY)
_HAS_ENDPOINTS = int(ServiceFlag.HAS_ENDPOINTS)
_DSR = int(ServiceFlag.DSR)


def plan_service(
    service: Service, slices: Sequence[EndpointSlice], node: PlanNode, settings: Settings
) -> ServicePlan:
    """Plans what the service needs on the node, in the families that are switched on."""
    items: list[Item] = []
    if not matches(service.nodes, node.labels):
        return ServicePlan(())
    local = service.external_local or service.internal_local
    maglev = _maglev(service, settings)
    for cluster_ip in service.cluster_ips:
        version = family(cluster_ip)
        if not settings.network.has_family(version):
            continue
        usable = [found for found in slices if found.family == version]
        ranges = _source_ranges(service, version, node, settings)
        guard = _guard(service) if ranges else 0
        addresses = _addresses(service, cluster_ip, settings, guard)
        for port in service.ports:
            backends = plan_backends(usable, port, node, local=local)
            flags = _HAS_ENDPOINTS if is_usable(backends) else 0
            direct = _DSR if _is_direct(service, port, settings) else 0
            frontends = _frontends(addresses, port, flags, direct)
            if (
                port.node_port
                and settings.services.with_node_ports
                and Exposure.NODE_PORT in service.exposure
            ):
                flags |= _NODE_PORT | (_LOCAL if service.external_local else 0)
                flags |= direct
                flags |= guard if settings.services.source_ranges_for_all_types else 0
                frontend = (UNSPECIFIED[version], port.node_port, port.protocol)
                frontends.append(PlannedFrontend(*frontend, flags))
            key = ItemKey(service.namespace, service.name, port.name, port.protocol, version)
            item = Item(key, tuple(frontends), backends, service.affinity_s, ranges)
            items.append(replace(item, maglev=maglev) if maglev and _is_external(item) else item)
    return ServicePlan(tuple(items))


def _maglev(service: Service, settings: Settings) -> Maglev | None:
    """The tables by which the Service's external frontends select; None: they select at random."""
    balancing = settings.balancing
    word = (service.algorithm if balancing.by_annotation else "") or balancing.algorithm
    return Maglev(balancing.maglev_cells, balancing.maglev_seed) if word == "maglev" else None


def _is_external(item: Item) -> bool:
    return any(frontend.flags & EXTERNAL for frontend in item.frontends)


def _addresses(
    service: Service, cluster_ip: Address, settings: Settings, guard: int
) -> dict[Address, int]:
    """Addresses of one family with their flags; the ClusterIP is the first."""
    found: dict[Address, int] = {}
    if Exposure.CLUSTER_IP in service.exposure:
        found[cluster_ip] = _CLUSTER_IP | (_LOCAL if service.internal_local else 0)
    if settings.services.with_external and (service.external_ips or service.load_balancer_ips):
        local = _LOCAL if service.external_local else 0
        guard_all = guard if settings.services.source_ranges_for_all_types else 0
        version = family(cluster_ip)
        _add(found, service.external_ips, version, _EXTERNAL_IP | local | guard_all)
        if Exposure.LOAD_BALANCER in service.exposure:
            _add(found, service.load_balancer_ips, version, _LOAD_BALANCER | local | guard)
    return found


def _add(
    found: dict[Address, int], addresses: Iterable[Address], version: Family, flags: int
) -> None:
    """Adds flags to addresses. An external address that is also the ClusterIP keeps the policy of the ClusterIP."""
    for address in addresses:
        if family(address) == version:
            before = found.get(address, 0)
            found[address] = before | (flags & ~_LOCAL if before & _CLUSTER_IP else flags)


def _frontends(
    addresses: dict[Address, int], port: ServicePort, flags: int, direct: int
) -> list[PlannedFrontend]:
    number, protocol = port.port, port.protocol
    return [
        PlannedFrontend(
            address, number, protocol, some | flags | (direct if some & _OUTSIDE else 0)
        )
        for address, some in addresses.items()
    ]


def _is_direct(service: Service, port: ServicePort, settings: Settings) -> bool:
    """Whether backends' nodes answer clients outside; they have to serve the service as well, to know its frontends."""
    return not service.nodes and settings.dsr.is_direct(service.forwarding, port.protocol)


def _guard(service: Service) -> int:
    return _SOURCE_RANGES | (_SOURCE_DENY if service.source_deny else 0)


def _source_ranges(
    service: Service, version: Family, node: PlanNode, settings: Settings
) -> tuple[Cidr, ...]:
    """The source ranges of one family.

    If they let the node in, they let the load balancer's addresses in too: an agent may bind those on the node.
    """
    guarded = service.load_balancer_ips or settings.services.source_ranges_for_all_types
    if not service.source_ranges or not guarded:
        return ()
    ranges = [cidr for cidr in service.source_ranges if cidr.family == version]
    if not service.source_deny and any(
        cidr.contains(address) for cidr in ranges for address in node.addresses
    ):
        ranges += [host_cidr(a) for a in service.load_balancer_ips if family(a) == version]
    return tuple(dict.fromkeys(ranges))
