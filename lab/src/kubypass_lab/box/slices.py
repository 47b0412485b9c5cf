# SPDX-License-Identifier: Apache-2.0
"""Computes EndpointSlices from pods, as Kubernetes' EndpointSlice controller does. Pure.

A Service has one slice for each IP family and each set of port numbers that its pods resolve to: a named targetPort
can have different numbers in different pods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from kubypass_lab.box.addressing import FAMILIES
from kubypass_lab.box.files import Json, mapping
from kubypass_lab.box.object_files import selects
from kubypass_lab.box.objects import ContainerPort, Metadata, Service, ServiceSpec
from kubypass_lab.box.record import PodRecord

HEADLESS_LABEL = "service.kubernetes.io/headless"

Ports = tuple[tuple[str, str, int], ...]  # name, protocol, number


def plan_slices(
    service: Service, pods: Iterable[PodRecord], zones: Mapping[str, str]
) -> list[Json]:
    """The EndpointSlices of a stored Service; none if it has no selector. `zones` maps nodes to zones."""
    spec, namespace = service.spec, service.metadata.namespace
    if not spec.selector or spec.type == "ExternalName":
        return []
    selected = [p for p in pods if p.namespace == namespace and selects(spec.selector, p.labels)]
    slices = []
    headless = spec.cluster_ip == "None"
    for family in spec.ip_families or ():
        groups: dict[Ports, list[Json]] = {} if selected else {_resolve(spec, ()): []}
        for pod in selected:
            for address in (a for a in pod.addresses if FAMILIES[ip_address(a).version] == family):
                zone = zones.get(pod.node, "")
                endpoint = _endpoint(pod, address, zone, always=spec.publish_not_ready_addresses)
                groups.setdefault(_resolve(spec, pod.ports), []).append(endpoint)
        for ports, endpoints in groups.items():
            _add_hints(spec, endpoints)
            slices.append(_slice(service.metadata, family, ports, endpoints, headless=headless))
    return slices


def _resolve(spec: ServiceSpec, named: tuple[ContainerPort, ...]) -> Ports:
    """The Service's ports as port numbers of one pod. A port whose name the pod does not have is left out."""
    resolved = []
    for port in spec.ports or ():
        target = port.target_port or port.port
        if isinstance(target, str) and not target.isdigit():
            matches = (p for p in named if p.name == target and p.protocol == port.protocol)
            target = next((p.container_port for p in matches), 0)
        if target:
            resolved.append((port.name, port.protocol, int(target)))
    return tuple(resolved)


def _add_hints(spec: ServiceSpec, endpoints: list[Json]) -> None:
    """Add topology hints according to `trafficDistribution`. No endpoint gets hints if one has no zone."""
    ready = [each for each in endpoints if mapping(each["conditions"])["ready"]]
    if spec.traffic_distribution is None or not all("zone" in each for each in ready):
        return
    for each in ready:
        hints: Json = {"forZones": [{"name": each["zone"]}]}
        if spec.traffic_distribution == "PreferSameNode":
            hints["forNodes"] = [{"name": each["nodeName"]}]
        each["hints"] = hints


def _endpoint(pod: PodRecord, address: str, zone: str, *, always: bool) -> Json:
    serving = pod.state in ("ready", "terminating") or always
    return {
        "addresses": [address],
        "conditions": {
            "ready": pod.state == "ready" or always,
            "serving": serving,
            "terminating": pod.state == "terminating",
        },
        "nodeName": pod.node,
        **({"zone": zone} if zone else {}),
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
    }


def _slice(
    service: Metadata, family: str, ports: Ports, endpoints: list[Json], *, headless: bool
) -> Json:
    suffix = hashlib.sha256(repr((family, ports)).encode()).hexdigest()[:5]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": service.namespace,
            "name": f"{service.name}-{suffix}",
            "labels": {
                **(service.labels or {}),
                **({HEADLESS_LABEL: ""} if headless else {}),
                "kubernetes.io/service-name": service.name,
                "endpointslice.kubernetes.io/managed-by": "box.kubypass",
            },
        },
        "addressType": family,
        "ports": [
            {"name": name, "protocol": protocol, "port": port} for name, protocol, port in ports
        ],
        "endpoints": endpoints,
    }
