# SPDX-License-Identifier: Apache-2.0
"""Wire objects into the model's. A bad part is left out and noted; None if nothing usable is left.

Follows what kube-proxy does where the API server would have checked: sloppy addresses, conditions
and ports by default, only the first address of an endpoint. Notes go to the caller's list, one
line each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.kube import wire
from kubypass.kube.convert.annotations import read_exposure, read_nodes, read_source_deny
from kubypass.model.address import (
    Address,
    Family,
    family,
    format_address,
    is_special,
    parse_address,
)
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.endpoint import Endpoint, EndpointSlice, SlicePort
from kubypass.model.node import Node
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServicePort

if TYPE_CHECKING:
    from collections.abc import Iterable

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_LABEL = "kubernetes.io/service-name"

ZONE_LABEL = "topology.kubernetes.io/zone"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"

MAX_PORT = 65535
MAX_AFFINITY_S = 86400
DEFAULT_AFFINITY_S = 10800
PROTOCOLS: dict[str | None, Protocol] = {
    None: Protocol.TCP,
    "": Protocol.TCP,
    **{protocol.name: protocol for protocol in Protocol},
}
_NODE_NAMES = {"Hostname", "InternalDNS", "ExternalDNS"}
_FAMILIES: dict[str, Family] = {"IPv4": 4, "IPv6": 6}


def is_selected(metadata: wire.Metadata, proxy_name: str) -> bool:
    """Whether an object with these labels is this proxy's (presence of a label is enough)."""
    labels = metadata.labels
    if not labels:
        return not proxy_name
    if HEADLESS_LABEL in labels:
        return False
    return labels.get(PROXY_NAME_LABEL, "") == proxy_name and (
        bool(proxy_name) or PROXY_NAME_LABEL not in labels
    )


def convert_service(source: wire.Service, notes: list[str]) -> Service | None:
    """A service with cluster addresses; None for ExternalName, headless and address-less ones."""
    metadata = source.metadata or wire.Metadata()
    spec = source.spec or wire.ServiceSpec()
    if spec.type == "ExternalName" or spec.cluster_ip == "None":
        return None
    cluster_ips = _cluster_ips(spec, notes)
    if not cluster_ips:
        if not notes:
            notes.append(
                "spec.clusterIP is missing; expected an address, as an API server allocates it; "
                "write one, the service is not served until then"
            )
        return None
    annotations = metadata.annotations or {}
    status = source.status.load_balancer if source.status else None
    ingress = (status.ingress if status else None) or ()
    return Service(
        namespace=metadata.namespace or "default",
        name=metadata.name,
        type=spec.type or "ClusterIP",
        cluster_ips=cluster_ips,
        external_ips=_served("spec.externalIPs", spec.external_ips or (), notes),
        load_balancer_ips=_served("status.loadBalancer.ingress", _vips(ingress, notes), notes),
        ports=_service_ports(spec.ports or (), notes),
        external_local=_is_local(spec.external_traffic_policy, "spec.externalTrafficPolicy", notes),
        internal_local=_is_local(spec.internal_traffic_policy, "spec.internalTrafficPolicy", notes),
        affinity_s=_affinity(spec, notes),
        source_ranges=_source_ranges(spec.load_balancer_source_ranges or (), notes),
        source_deny=read_source_deny(annotations, notes),
        exposure=read_exposure(annotations, notes),
        nodes=read_nodes(annotations, notes),
        health_check_port=_health_check_port(spec),
        uid=metadata.uid or "",
        created=metadata.creation_timestamp or "",
    )


def _is_local(text: str | None, field: str, notes: list[str]) -> bool:
    if text not in {None, "", "Cluster", "Local"}:
        notes.append(f"{field} is {text!r}; expected Cluster or Local; taken as Cluster")
    return text == "Local"


def _affinity(spec: wire.ServiceSpec, notes: list[str]) -> int:
    """Seconds; 0 for none."""
    if spec.session_affinity not in {None, "", "None", "ClientIP"}:
        notes.append(
            f"spec.sessionAffinity is {spec.session_affinity!r}; expected None or ClientIP; "
            "taken as None"
        )
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    said = config.client_ip.timeout_seconds if config and config.client_ip else None
    if said is not None and not 0 < said <= MAX_AFFINITY_S:
        notes.append(
            f"sessionAffinityConfig.clientIP.timeoutSeconds is {said}; "
            f"expected 1 to {MAX_AFFINITY_S}; taken as {DEFAULT_AFFINITY_S}"
        )
        said = None
    return DEFAULT_AFFINITY_S if said is None else said


def _source_ranges(texts: Iterable[str], notes: list[str]) -> tuple[Cidr, ...]:
    """Without an unreadable one: fewer clients are let in then, not more."""
    found: dict[Cidr, None] = {}
    for text in texts:
        try:
            found[parse_cidr(text.strip())] = None
        except ValueError as error:
            notes.append(f"spec.loadBalancerSourceRanges: {error}; left out")
    return tuple(found)


def _health_check_port(spec: wire.ServiceSpec) -> int:
    port = spec.health_check_node_port or 0
    asked = spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"
    return port if asked and 0 < port <= MAX_PORT else 0


def _cluster_ips(spec: wire.ServiceSpec, notes: list[str]) -> tuple[Address, ...]:
    """At most one address of each family: by ipFamilies if set, otherwise clusterIP alone."""
    texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if "None" in texts:
        return ()
    if not spec.ip_families:
        first = spec.cluster_ip or (texts[0] if texts else "")
        return _served("spec.clusterIP", [first] if first else [], notes)
    found: dict[int, Address] = {}
    for text, name in zip(texts, spec.ip_families, strict=False):
        for address in _served("spec.clusterIPs", [text], notes):
            if family(address) != _FAMILIES.get(name):
                notes.append(f"spec.clusterIPs has {text} where ipFamilies says {name}; left out")
            else:
                found.setdefault(family(address), address)
    return tuple(found.values())


def _vips(ingress: Iterable[wire.Ingress], notes: list[str]) -> Iterable[str]:
    """Those that nodes answer for: with `Proxy`, the load balancer wants to see the packets."""
    for index, entry in enumerate(ingress):
        if entry.ip_mode not in {None, "", "VIP", "Proxy"}:
            notes.append(
                f"status.loadBalancer.ingress[{index}].ipMode is {entry.ip_mode!r}; "
                "expected VIP or Proxy; left out"
            )
        elif entry.ip and entry.ip_mode != "Proxy":
            yield entry.ip


def _served(field: str, texts: Iterable[str], notes: list[str]) -> tuple[Address, ...]:
    """Addresses that a service can have: one host's own, or none's, would be taken from programs that use it."""
    found = addresses(field, texts, notes)
    notes.extend(
        f"{field} has {format_address(address)}; expected neither an unspecified nor a loopback "
        "nor a multicast address; left out"
        for address in filter(is_special, found)
    )
    return tuple(address for address in found if not is_special(address))


def addresses(field: str, texts: Iterable[str], notes: list[str]) -> tuple[Address, ...]:
    """The readable ones, without repetitions, in order."""
    found: dict[Address, None] = {}
    for text in texts:
        try:
            found[parse_address(text)] = None
        except ValueError:
            notes.append(f"{field} has {text!r}; expected an IP address; left out")
    return tuple(found)


def _service_ports(ports: Iterable[wire.ServicePort], notes: list[str]) -> tuple[ServicePort, ...]:
    found: dict[tuple[str, Protocol], ServicePort] = {}
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        protocol = PROTOCOLS.get(port.protocol)
        name = port.name or ""
        if protocol is None:
            notes.append(
                f"{field}.protocol is {port.protocol!r}; expected TCP, UDP or SCTP; left out"
            )
        elif not 0 < port.port <= MAX_PORT:
            notes.append(f"{field}.port is {port.port}; expected 1 to {MAX_PORT}; left out")
        elif (name, protocol) in found:
            notes.append(f"{field} repeats the name {name!r} for {protocol.name}; left out")
        else:
            node_port = port.node_port or 0
            if not 0 <= node_port <= MAX_PORT:
                notes.append(f"{field}.nodePort is {node_port}; expected 1 to {MAX_PORT}; left out")
                node_port = 0
            found[name, protocol] = ServicePort(name, protocol, port.port, node_port)
    return tuple(found.values())


def convert_slice(
    source: wire.EndpointSlice, names: dict[str, str], notes: list[str]
) -> EndpointSlice | None:
    """A slice of a service; None for FQDN ones and those of no service. `names` shares strings."""
    metadata = source.metadata or wire.Metadata()
    service = (metadata.labels or {}).get(SERVICE_LABEL)
    wanted = _FAMILIES.get(source.address_type or "")
    if source.address_type == "FQDN" or not service:
        return None
    if wanted is None:
        notes.append(f"addressType is {source.address_type!r}; expected IPv4 or IPv6; left out")
        return None
    namespace = metadata.namespace or "default"
    return EndpointSlice(
        namespace=names.setdefault(namespace, namespace),
        name=metadata.name,
        service=names.setdefault(service, service),
        family=wanted,
        ports=_slice_ports(source.ports or (), names, notes),
        endpoints=tuple(_endpoints(source.endpoints or (), wanted, names, notes)),
    )


def _slice_ports(
    ports: Iterable[wire.SlicePort], names: dict[str, str], notes: list[str]
) -> tuple[SlicePort, ...]:
    """A port without a name or a number means nothing to a service; an empty name is a name."""
    found: list[SlicePort] = []
    for index, port in enumerate(ports):
        protocol = PROTOCOLS.get(port.protocol)
        if port.name is None:
            notes.append(
                f'ports[{index}] has no name; expected one ("" for an unnamed service port); left out'
            )
        elif not port.port:
            continue
        elif protocol is None:
            notes.append(
                f"ports[{index}].protocol is {port.protocol!r}; expected TCP, UDP or SCTP; left out"
            )
        elif not 0 < port.port <= MAX_PORT:
            notes.append(f"ports[{index}].port is {port.port}; expected 1 to {MAX_PORT}; left out")
        else:
            found.append((names.setdefault(port.name, port.name), protocol, port.port))
    return tuple(found)


def _endpoints(
    endpoints: Iterable[wire.Endpoint], wanted: Family, names: dict[str, str], notes: list[str]
) -> Iterable[Endpoint]:
    share = names.setdefault
    for index, endpoint in enumerate(endpoints):
        text = endpoint.addresses[0] if endpoint.addresses else ""
        try:
            address = parse_address(text)
        except ValueError:
            notes.append(
                f"endpoints[{index}] has {text!r}; expected an IPv{wanted} address; left out"
            )
            continue
        if family(address) != wanted:
            notes.append(
                f"endpoints[{index}] has {text}; expected an IPv{wanted} address; left out"
            )
            continue
        node = endpoint.node_name or ""
        said = endpoint.conditions or _READY
        zones, nodes = _hints(endpoint.hints, names) if endpoint.hints else ((), ())
        yield Endpoint(
            address,
            share(node, node),
            said.ready is not False,
            said.serving is not False,
            said.terminating is True,
            zones,
            nodes,
        )


_READY = wire.Conditions()


def _hints(hints: wire.Hints, names: dict[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    zones, nodes = (
        tuple([names.setdefault(hint.name, hint.name) for hint in some or ()])
        for some in (hints.for_zones, hints.for_nodes)
    )
    return zones, nodes


def convert_node(source: wire.Node, notes: list[str]) -> Node:
    """A node; without addresses it is still a node."""
    metadata = source.metadata or wire.Metadata()
    spec = source.spec or wire.NodeSpec()
    given = (source.status.addresses if source.status else None) or ()
    internal = [entry.address for entry in given if entry.type == "InternalIP"]
    cidrs: list[Cidr] = []
    for text in spec.pod_cidrs or ([spec.pod_cidr] if spec.pod_cidr else []):
        try:
            cidrs.append(parse_cidr(text))
        except ValueError as error:
            notes.append(f"spec.podCIDRs: {error}; left out")
    taints = tuple(taint.key for taint in spec.taints or ())
    return Node(
        metadata.name,
        addresses("status.addresses", internal, notes),
        tuple(cidrs),
        tuple(entry.address for entry in given if entry.type in _NODE_NAMES),
        (metadata.labels or {}).get(ZONE_LABEL, ""),
        metadata.labels or {},
        leaving=bool(metadata.deletion_timestamp) or LEAVING_TAINT in taints,
        taints=taints,
    )
