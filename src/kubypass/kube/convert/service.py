# SPDX-License-Identifier: Apache-2.0
"""Converts Services. A bad part is left out and noted; the result is None if nothing usable is left.

Manifest files are not checked by an API server, so missing fields get the API's defaults and sloppy values are read as
kube-proxy reads them. Every note is one line in the caller's list. Wrong annotations are in the Service (last_good.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.kube import wire
from kubypass.kube.convert.annotations import (
    read_algorithm,
    read_exposure,
    read_forwarding,
    read_nodes,
    read_source_deny,
)
from kubypass.kube.convert.fields import FAMILIES, MAX_PORT, PROTOCOLS, read_addresses
from kubypass.model.address import Address, family, format_address, is_special
from kubypass.model.annotation import WrongAnnotation
from kubypass.model.cidr import Cidr, parse_cidr
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServicePort

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_AFFINITY_S = 86400
DEFAULT_AFFINITY_S = 10800


def convert_service(source: wire.Service, notes: list[str]) -> Service | None:
    """The Service; None if it is headless, of type ExternalName, or has no cluster address."""
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
    wrong: list[WrongAnnotation] = []
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
        source_deny=read_source_deny(annotations, wrong),
        algorithm=read_algorithm(annotations, wrong),
        exposure=read_exposure(annotations, wrong),
        nodes=read_nodes(annotations, wrong),
        forwarding=read_forwarding(annotations, wrong),
        health_check_port=_health_check_port(spec),
        uid=metadata.uid or "",
        created=metadata.creation_timestamp or "",
        wrong=tuple(wrong),
    )


def _is_local(text: str | None, field: str, notes: list[str]) -> bool:
    if text not in {None, "", "Cluster", "Local"}:
        notes.append(f"{field} is {text!r}; expected Cluster or Local; taken as Cluster")
    return text == "Local"


def _affinity(spec: wire.ServiceSpec, notes: list[str]) -> int:
    """The timeout of the session affinity in seconds; 0 without affinity."""
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
    """The readable ranges. Leaving one out admits fewer clients, never more."""
    found: dict[Cidr, None] = {}
    for text in texts:
        try:
            found[parse_cidr(text.strip())] = None
        except ValueError as error:
            notes.append(f"spec.loadBalancerSourceRanges: {error}; left out")
    return tuple(found)


def _health_check_port(spec: wire.ServiceSpec) -> int:
    port = spec.health_check_node_port or 0
    needed = spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"
    return port if needed and 0 < port <= MAX_PORT else 0


def _cluster_ips(spec: wire.ServiceSpec, notes: list[str]) -> tuple[Address, ...]:
    """At most one address of each family: clusterIPs by ipFamilies if that is set, otherwise clusterIP alone."""
    texts = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if "None" in texts:
        return ()
    if not spec.ip_families:
        first = spec.cluster_ip or (texts[0] if texts else "")
        return _served("spec.clusterIP", [first] if first else [], notes)
    found: dict[int, Address] = {}
    for text, name in zip(texts, spec.ip_families, strict=False):
        for address in _served("spec.clusterIPs", [text], notes):
            if family(address) != FAMILIES.get(name):
                notes.append(f"spec.clusterIPs has {text} where ipFamilies says {name}; left out")
            else:
                found.setdefault(family(address), address)
    return tuple(found.values())


def _vips(ingress: Iterable[wire.Ingress], notes: list[str]) -> Iterable[str]:
    """The addresses that nodes serve. With `ipMode: Proxy`, packets must pass the load balancer."""
    for index, entry in enumerate(ingress):
        if entry.ip_mode not in {None, "", "VIP", "Proxy"}:
            notes.append(
                f"status.loadBalancer.ingress[{index}].ipMode is {entry.ip_mode!r}; "
                "expected VIP or Proxy; left out"
            )
        elif entry.ip and entry.ip_mode != "Proxy":
            yield entry.ip


def _served(field: str, texts: Iterable[str], notes: list[str]) -> tuple[Address, ...]:
    """The addresses that a Service can have. Serving a loopback address would take it from programs that use it."""
    found = read_addresses(field, texts, notes)
    notes.extend(
        f"{field} has {format_address(address)}; expected neither an unspecified nor a loopback "
        "nor a multicast address; left out"
        for address in filter(is_special, found)
    )
    return tuple(address for address in found if not is_special(address))


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
