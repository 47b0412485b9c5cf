# SPDX-License-Identifier: Apache-2.0
"""Computes EndpointSlices from pods, as Kubernetes' EndpointSlice controller does. Pure.

One slice for each IP family of the Service and each set of port numbers that its pods resolve to: a named targetPort
may be another number in another pod.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable

from kubypass.box.addressing import FAMILIES, service_versions
from kubypass.box.files import Json
from kubypass.box.objects import selects
from kubypass.box.record import PodRecord

Ports = tuple[tuple[str, str, int], ...]  # name, protocol, number


def plan_slices(service: Json, pods: Iterable[PodRecord]) -> list[Json]:
    """The EndpointSlices of a stored Service; none if it has no selector."""
    metadata, spec = service["metadata"], service["spec"]
    assert isinstance(metadata, dict)
    assert isinstance(spec, dict)
    selector = spec.get("selector")
    if not selector or spec.get("type") == "ExternalName":
        return []
    namespace, name = str(metadata.get("namespace", "default")), str(metadata["name"])
    selected = [pod for pod in pods if pod.namespace == namespace and selects(selector, pod.labels)]
    always = bool(spec.get("publishNotReadyAddresses"))
    slices = []
    for version in service_versions(spec):
        groups: dict[Ports, list[Json]] = {_resolve(spec, None): []} if not selected else {}
        for pod in selected:
            address = next((a for a in pod.addresses if ipaddress.ip_address(a).version == version), None)
            if address is not None:
                groups.setdefault(_resolve(spec, pod), []).append(_endpoint(pod, address, always=always))
        slices += [_slice(namespace, name, version, ports, endpoints) for ports, endpoints in groups.items()]
    return slices


def _resolve(spec: Json, pod: PodRecord | None) -> Ports:
    """The Service's ports as numbers of one pod; a name that the pod does not have is left out."""
    resolved = []
    ports = spec.get("ports")
    for port in ports if isinstance(ports, list) else []:
        protocol, target = port.get("protocol", "TCP"), port.get("targetPort", port["port"])
        if isinstance(target, str) and target.isdigit():
            target = int(target)
        if isinstance(target, str):
            named = (p for p in (pod.ports if pod else ()) if p.name == target and p.protocol == protocol)
            target = next((p.container_port for p in named), 0)
        if target:
            resolved.append((str(port.get("name", "")), str(protocol), int(target)))
    return tuple(resolved)


def _endpoint(pod: PodRecord, address: str, *, always: bool) -> Json:
    serving = pod.state in ("ready", "terminating") or always
    return {
        "addresses": [address],
        "conditions": {
            "ready": pod.state == "ready" or always,
            "serving": serving,
            "terminating": pod.state == "terminating",
        },
        "nodeName": pod.node,
        "targetRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
    }


def _slice(namespace: str, service: str, version: int, ports: Ports, endpoints: list[Json]) -> Json:
    suffix = hashlib.sha256(repr((version, ports)).encode()).hexdigest()[:5]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace,
            "name": f"{service}-{suffix}",
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "box.kubypass",
            },
        },
        "addressType": FAMILIES[version],
        "ports": [{"name": name, "protocol": protocol, "port": port} for name, protocol, port in ports],
        "endpoints": endpoints,
    }
