# SPDX-License-Identifier: Apache-2.0
"""`kubypass trace --batch`: cases in JSON Lines, each with objects of its own; an answer for each, in JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeVar

import msgspec

from kubypass.errors import KubypassError
from kubypass.kernel.features import Features, probe_features
from kubypass.kube.manifests.object_lists import snapshot_of
from kubypass.model.address import family, format_address_port, parse_address
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.protocol import Protocol
from kubypass.settings.masquerade import MasqueradeSettings
from kubypass.settings.node_port_addresses import NodePortAddresses
from kubypass.settings.node_ports import NodePortSettings
from kubypass.settings.parse import parse_networks
from kubypass.settings.pods import PodSettings
from kubypass.settings.services import ServiceSettings
from kubypass.settings.settings import Settings
from kubypass.trace.messages import reason
from kubypass.trace.node_view import objects_of
from kubypass.trace.packets import Flow
from kubypass.trace.programs import Programs
from kubypass.trace.run import Run, Source, run
from kubypass.trace.scratch_maps import Cluster, Objects

CLIENT_PORT = 45678
_IPV4_ONLY = 1  # kube-proxy's localhost NodePorts; ours answer on ::1 too
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What lines raise that are no JSON, or nest too deeply."""
Read = TypeVar("Read")


class _Objects(msgspec.Struct):
    services: list[Any] = []
    endpointslices: list[Any] = []
    nodes: list[Any] = []
    pods: list[Any] = []


class _Config(msgspec.Struct):
    nodeport_addresses: Literal["primary"] | list[str] | None = None
    localhost_nodeports: bool = True
    masquerade_all: bool = False
    local_detector: Literal["cluster-cidr", "none"] = "cluster-cidr"
    service_cidrs: list[str] = []
    external_clusterip: bool = True
    """kube-proxy serves ClusterIPs to everyone."""


class _Flow(msgspec.Struct):
    src_ip: str
    src_kind: Literal["pod", "node", "external"]
    proto: str
    dst_ip: str
    dst_port: int
    src_port: int = CLIENT_PORT


class _Case(msgspec.Struct):
    flow: _Flow
    id: Any = None
    objects: _Objects = msgspec.field(default_factory=_Objects)
    this_node: str = ""
    node_ips: list[str] = []
    cluster_cidr: list[str] | str = []
    config: _Config = msgspec.field(default_factory=_Config)


class _Id(msgspec.Struct):
    id: Any = None


def answer_cases(programs: Programs, lines: Iterable[bytes]) -> Iterator[bytes]:
    """One line of JSON for each line that is not empty; a bad case is a line with `error`."""
    features = probe_features()
    for line in lines:
        if not line.strip():
            continue
        try:
            case = msgspec.json.decode(line, type=_Case)
            yield msgspec.json.encode(_answer(programs, case, features))
        except (*_UNREADABLE, ValueError, KubypassError) as error:
            yield msgspec.json.encode({"id": _id(line), "error": " ".join(str(error).split())})


def _id(line: bytes) -> object:
    try:
        return msgspec.json.decode(line, type=_Id).id
    except _UNREADABLE:
        return None


def _answer(programs: Programs, case: _Case, features: Features) -> dict[str, object]:
    flow = _flow(case.flow)
    objects = _objects(case, features)
    cluster = Cluster(objects)
    programs.configure(objects.config)
    cluster.write(programs.maps, programs.ifindex)
    found = run(programs, flow, Source(case.flow.src_kind), frozenset(objects.addresses))
    return {
        "id": case.id,
        **verdict_fields(found),
        "reason": reason(found, cluster.explain),
        "problems": [str(problem) for problem in cluster.problems],
    }


def verdict_fields(found: Run) -> dict[str, object]:
    """What the kernel decided, as the contract has it."""
    program = found.decided or (found.outcomes[-1] if found.outcomes else None)
    return {
        "verdict": found.answer,
        "backends": sorted(format_address_port(*place) for place in found.candidates),
        "backend": format_address_port(*found.backend) if found.backend else None,
        "masquerade": found.masquerade,
        "program": program.program if program else None,
    }


def _flow(given: _Flow) -> Flow:
    source, destination = (
        _field("flow.src_ip", parse_address, given.src_ip),
        _field("flow.dst_ip", parse_address, given.dst_ip),
    )
    if family(source) != family(destination):
        raise ValueError("flow.src_ip and flow.dst_ip: expected addresses of one family")
    names = {protocol.name: protocol for protocol in Protocol}
    if given.proto.upper() not in names:
        raise ValueError(f"flow.proto is {given.proto!r}: expected TCP, UDP or SCTP")
    for name, port in (("dst_port", given.dst_port), ("src_port", given.src_port)):
        if not 0 < port <= 65535:
            raise ValueError(f"flow.{name} is {port}: expected 1 to 65535")
    protocol = names[given.proto.upper()]
    return Flow(source, given.src_port, destination, given.dst_port, protocol)


def _objects(case: _Case, features: Features) -> Objects:
    lists = {name: getattr(case.objects, name) for name in case.objects.__struct_fields__}
    snapshot = snapshot_of(lists)
    addresses = [_field("node_ips", parse_address, text) for text in case.node_ips]
    own = snapshot.nodes.get(case.this_node)
    internal = [a for a in own.addresses if not addresses or a in addresses] if own else []
    every = (*internal, *addresses)
    found = objects_of(snapshot, case.this_node, every, _settings(case), features)
    answers = found.config.localhost_node_ports & _IPV4_ONLY
    return replace(found, config=found.config._replace(localhost_node_ports=answers))


def _settings(case: _Case) -> Settings:
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


def _field(name: str, parse: Callable[[str], Read], text: str) -> Read:
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
