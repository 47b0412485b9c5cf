# SPDX-License-Identifier: Apache-2.0
"""Waits until every agent has connected and uses a new pod, or no longer uses a deleted one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from kubypass.errors import KubypassError
from kubypass.kube.wire import Endpoint, EndpointSlice, Hint, Metadata, Service, ServiceSpec
from kubypass.model.address import in_brackets
from kubypass_lab.box import agents
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import read_all
from kubypass_lab.box.labels import read_zones
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.record import PodRecord, read_pods

SERVICE_NAME = "kubernetes.io/service-name"


# Services with these labels or annotations belong to another proxy, or to some nodes only.
_ELSEWHERE = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
_SOME_NODES = ("service.cilium.io/node", "service.cilium.io/node-selector")


def _name(metadata: Metadata | None) -> tuple[str, str]:
    """The namespace and the name of an object."""
    metadata = metadata or Metadata()
    return metadata.namespace or "default", metadata.name


def _is_served(service: Service) -> bool:
    """Whether every agent serves the service."""
    metadata, spec = service.metadata or Metadata(), service.spec or ServiceSpec()
    return (
        (spec.cluster_ip or "None") != "None"
        and spec.type != "ExternalName"
        and not any(key in (metadata.labels or {}) for key in _ELSEWHERE)
        and not any(key in (metadata.annotations or {}) for key in _SOME_NODES)
    )


def _service_of(endpoint_slice: EndpointSlice) -> tuple[str, str]:
    """The namespace and the name of the service that the slice belongs to."""
    metadata = endpoint_slice.metadata or Metadata()
    return _name(metadata)[0], (metadata.labels or {}).get(SERVICE_NAME, "")


def _backends(endpoint_slice: EndpointSlice, chosen: Callable[[Endpoint], bool]) -> set[str]:
    """Backends of the chosen endpoints, as an agent writes them: 10.233.64.14:80/TCP."""
    return {
        f"{in_brackets(address)}:{port.port}/{port.protocol or 'TCP'}"
        for endpoint in endpoint_slice.endpoints or ()
        if chosen(endpoint)
        for address in (endpoint.addresses or ())[:1]
        for port in endpoint_slice.ports or ()
    }


def _is_ready(endpoint: Endpoint) -> bool:
    return endpoint.conditions is None or endpoint.conditions.ready is not False


def _is_for(endpoint: Endpoint, node: str, zone: str) -> bool:
    """Whether a node that follows topology hints uses the endpoint."""
    if endpoint.hints is None:
        return True
    if endpoint.hints.for_nodes:
        return Hint(node) in endpoint.hints.for_nodes
    return Hint(zone) in (endpoint.hints.for_zones or ())


def wait_until_active(box: Box) -> bool:
    """Wait until every running agent uses every ready endpoint, and its node's pods are connected.

    Returns False after DEADLINE_S.
    """
    slices = _served_slices(box)
    zones = read_zones(read_all(box.paths.manifests))
    wanted: dict[str, set[str]] = {}
    for node in box.nodes:
        chosen = partial(_is_wanted, node=node.name, zone=zones.get(node.name, ""))
        wanted[node.name] = {backend for each in slices for backend in _backends(each, chosen)}
    uids: dict[str, set[str]] = {node.name: set() for node in box.nodes}
    for pod in read_pods(box.paths):
        if pod.state == "ready":
            uids[pod.node].add(pod.uid)

    def active(node: str) -> bool:
        connected = agents.connected_pods(box.paths, node)
        return wanted[node] <= agents.active_backends(box.paths, node) and uids[node] <= connected

    return _wait(box, active)


def _is_wanted(endpoint: Endpoint, node: str, zone: str) -> bool:
    return _is_ready(endpoint) and _is_for(endpoint, node, zone)


def wait_until_unused(box: Box, pods: Iterable[PodRecord]) -> bool:
    """Wait until no running agent sends new connections to `pods`. Returns False after DEADLINE_S.

    The last pods of a Service are not waited for: agents use a terminating pod as long as there is no other.
    """
    addresses = {address for pod in pods for address in pod.addresses}
    slices = _served_slices(box)
    replaced = {
        (_service_of(s), s.address_type) for s in slices for e in s.endpoints or () if _is_ready(e)
    }
    unwanted: set[str] = set()
    for each in slices:
        if (_service_of(each), each.address_type) in replaced:
            unwanted |= _backends(
                each, lambda endpoint: (endpoint.addresses or [""])[0] in addresses
            )
    return _wait(box, lambda node: not agents.active_backends(box.paths, node) & unwanted)


def _wait(box: Box, condition: Callable[[str], bool]) -> bool:
    running = [node.name for node in box.nodes if agents.is_running(box.paths, node.name)]

    def converged() -> bool:
        try:
            return all(map(condition, running))
        except (OSError, KubypassError):
            return False  # the agent is starting or ending; the caller's deadline decides

    return wait_until(converged)


def _served_slices(box: Box) -> list[EndpointSlice]:
    """The slices of the Services that agents serve."""
    objects = read_all(box.paths.manifests)
    services = [msgspec.convert(raw, Service) for raw in objects if raw.get("kind") == "Service"]
    served = {_name(each.metadata) for each in services if _is_served(each)}
    slices = [
        msgspec.convert(raw, EndpointSlice) for raw in objects if raw.get("kind") == "EndpointSlice"
    ]
    return [each for each in slices if _service_of(each) in served]
