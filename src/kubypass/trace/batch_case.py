# SPDX-License-Identifier: Apache-2.0
"""One case of `kubypass trace --batch` in JSON: objects, the node that sees them, settings, and a flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import msgspec

from kubypass.kernel.features import Features
from kubypass.kube.manifests.object_lists import snapshot_of
from kubypass.model.address import family, parse_address
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.protocol import Protocol
from kubypass.settings.masquerade import MasqueradeSettings
from kubypass.settings.node_port_addresses import NodePortAddresses
from kubypass.settings.node_ports import NodePortSettings
from kubypass.settings.parse import parse_networks
from kubypass.settings.pods import PodSettings
from kubypass.settings.services import ServiceSettings
from kubypass.settings.settings import Settings
from kubypass.trace.node_view import NodeView, view_from_node
from kubypass.trace.packets import Flow
from kubypass.trace.traced_node import CLIENT_PORT

_IPV4_ONLY = 1
"""kube-proxy has NodePorts on IPv4's loopback addresses only; ours answer on ::1 too."""
_Parsed = TypeVar("_Parsed")


class _Objects(msgspec.Struct):
    """Kubernetes objects by kind; what is wrong with one of them is a problem of the case."""

    services: list[Any] = []
    endpointslices: list[Any] = []
    nodes: list[Any] = []
    pods: list[Any] = []


class _Config(msgspec.Struct):
    """Settings in kube-proxy's words."""

    nodeport_addresses: Literal["primary"] | list[str] | None = None
    localhost_nodeports: bool = True
    masquerade_all: bool = False
    local_detector: Literal["cluster-cidr", "none"] = "cluster-cidr"
    service_cidrs: list[str] = []
    external_clusterip: bool = True
    """kube-proxy serves ClusterIPs to everyone."""


class _Flow(msgspec.Struct):
    """The new connection that is traced."""

    src_ip: str
    src_kind: Literal["pod", "node", "external"]
    proto: str
    dst_ip: str
    dst_port: int
    src_port: int = CLIENT_PORT


class Case(msgspec.Struct):
    """One line of the batch."""

    flow: _Flow
    id: Any = None
    objects: _Objects = msgspec.field(default_factory=_Objects)
    this_node: str = ""
    node_ips: list[str] = []
    cluster_cidr: list[str] | str = []
    config: _Config = msgspec.field(default_factory=_Config)


def parse_flow(case: Case) -> Flow:
    """Reads the case's flow; ValueError names the field that is wrong."""
    given = case.flow
    source, destination = (
        _field("flow.src_ip", parse_address, given.src_ip),
        _field("flow.dst_ip", parse_address, given.dst_ip),
    )
    if family(source) != family(destination):
        raise ValueError("flow.src_ip and flow.dst_ip: expected addresses of one family")
    protocols = {protocol.name: protocol for protocol in Protocol}
    if given.proto.upper() not in protocols:
        raise ValueError(f"flow.proto is {given.proto!r}: expected TCP, UDP or SCTP")
    for name, port in (("dst_port", given.dst_port), ("src_port", given.src_port)):
        if not 0 < port <= 65535:
            raise ValueError(f"flow.{name} is {port}: expected 1 to 65535")
    protocol = protocols[given.proto.upper()]
    return Flow(source, given.src_port, destination, given.dst_port, protocol)


def parse_view(case: Case, features: Features) -> NodeView:
    """Reads the case's objects and settings as its node sees them; ValueError names the field that is wrong."""
    lists = {name: getattr(case.objects, name) for name in case.objects.__struct_fields__}
    snapshot = snapshot_of(lists)
    addresses = [_field("node_ips", parse_address, text) for text in case.node_ips]
    own = snapshot.nodes.get(case.this_node)
    internal = [a for a in own.addresses if not addresses or a in addresses] if own else []
    everywhere = (*internal, *addresses)
    view = view_from_node(snapshot, case.this_node, everywhere, _settings(case), features)
    on_loopback = view.config.localhost_node_ports & _IPV4_ONLY
    return replace(view, config=view.config._replace(localhost_node_ports=on_loopback))


def _settings(case: Case) -> Settings:
    config = case.config
    texts = [case.cluster_cidr] if isinstance(case.cluster_cidr, str) else case.cluster_cidr
    cidrs: list[Cidr] = [_field("cluster_cidr", parse_cidr, text) for text in texts]
    detector = "ClusterCIDR" if config.local_detector == "cluster-cidr" else "none"
    where = config.nodeport_addresses
    if isinstance(where, list):
        chosen = [_field("config.nodeport_addresses", parse_cidr, text) for text in where]
        node_ports = NodePortAddresses(cidrs=tuple(chosen))
    else:
        node_ports = NodePortAddresses(primary=where == "primary")
    service_cidrs = _field("config.service_cidrs", parse_networks, ",".join(config.service_cidrs))
    return Settings(
        services=ServiceSettings(
            external_cluster_ip=config.external_clusterip, cidrs=service_cidrs
        ),
        node_ports=NodePortSettings(addresses=node_ports, on_loopback=config.localhost_nodeports),
        pods=PodSettings(detect_local_mode=detector, cluster_cidrs=tuple(cidrs)),
        masquerade=MasqueradeSettings(cluster_ip_clients=config.masquerade_all),
    )


def _field(name: str, parse: Callable[[str], _Parsed], text: str) -> _Parsed:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
