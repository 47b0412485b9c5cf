# SPDX-License-Identifier: Apache-2.0
"""Waits for the agents: a pod is there, or gone, only once every agent says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from kubypass.errors import KubypassError
from kubypass.model.address import in_brackets
from kubypass_lab.box import agents
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import read_all
from kubypass_lab.box.labels import read_zones
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.record import PodRecord

CONVERGE_S = 10.0
SERVICE_NAME = "kubernetes.io/service-name"


# Services with these are other proxies', or not every node's.
_ELSEWHERE = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
_SOME_NODES = ("service.cilium.io/node", "service.cilium.io/node-selector")


class _Metadata(msgspec.Struct, frozen=True):
    name: str
    namespace: str = "default"
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct, frozen=True):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="None", name="clusterIP")


class _Service(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec

    @property
    def is_served(self) -> bool:
        """Whether every agent serves it."""
        labels, annotations = self.metadata.labels or {}, self.metadata.annotations or {}
        return (
            self.spec.cluster_ip not in {"None", ""}
            and self.spec.type != "ExternalName"
            and not any(key in labels for key in _ELSEWHERE)
            and not any(key in annotations for key in _SOME_NODES)
        )


class _Conditions(msgspec.Struct, frozen=True):
    ready: bool | None = None


class _Hint(msgspec.Struct, frozen=True):
    name: str


class _Hints(msgspec.Struct, frozen=True, rename="camel"):
    for_nodes: tuple[_Hint, ...] = ()
    for_zones: tuple[_Hint, ...] = ()


class _Endpoint(msgspec.Struct, frozen=True):
    addresses: tuple[str, ...]
    conditions: _Conditions = _Conditions()
    hints: _Hints | None = None

    def is_for(self, node: str, zone: str) -> bool:
        """Whether a node that chooses among endpoints chooses it."""
        if self.hints is None:
            return True
        if self.hints.for_nodes:
            return _Hint(node) in self.hints.for_nodes
        return _Hint(zone) in self.hints.for_zones

    @property
    def is_ready(self) -> bool:
        return self.conditions.ready is not False


class _Port(msgspec.Struct, frozen=True):
    port: int
    protocol: str = "TCP"


class _Slice(msgspec.Struct, frozen=True, rename="camel"):
    metadata: _Metadata
    address_type: str
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None

    @property
    def service(self) -> tuple[str, str]:
        return self.metadata.namespace, (self.metadata.labels or {}).get(SERVICE_NAME, "")

    def backends(self, chosen: Callable[[_Endpoint], bool]) -> set[str]:
        """Backends of some of the endpoints, as an agent writes them: 10.233.64.14:80/TCP."""
        return {
            f"{in_brackets(address)}:{port.port}/{port.protocol}"
            for endpoint in self.endpoints or ()
            if chosen(endpoint)
            for address in endpoint.addresses[:1]
            for port in self.ports or ()
        }


def wait_until_active(box: Box) -> bool:
    """Wait until every agent that runs uses every ready endpoint; False after CONVERGE_S."""
    slices = _served_slices(box)
    zones = read_zones(read_all(box.paths.manifests))
    wanted: dict[str, set[str]] = {}
    for node in box.nodes:
        chosen = partial(_is_wanted, node=node.name, zone=zones.get(node.name, ""))
        wanted[node.name] = {backend for each in slices for backend in each.backends(chosen)}
    return _wait(box, lambda node, active: wanted[node] <= active)


def _is_wanted(endpoint: _Endpoint, node: str, zone: str) -> bool:
    return endpoint.is_ready and endpoint.is_for(node, zone)


def wait_until_unused(box: Box, pods: Iterable[PodRecord]) -> bool:
    """Wait until no agent that runs sends new connections to `pods`.

    The last pods of a Service are not waited for: a terminating pod is used as long as there is no
    other.
    """
    addresses = {address for pod in pods for address in pod.addresses}
    slices = _served_slices(box)
    replaced = {
        (s.service, s.address_type) for s in slices for e in s.endpoints or () if e.is_ready
    }
    unwanted: set[str] = set()
    for each in slices:
        if (each.service, each.address_type) in replaced:
            unwanted |= each.backends(lambda endpoint: endpoint.addresses[0] in addresses)
    return _wait(box, lambda _, active: not active & unwanted)


def _wait(box: Box, condition: Callable[[str, set[str]], bool]) -> bool:
    running = [node.name for node in box.nodes if agents.is_running(box.paths, node.name)]

    def converged() -> bool:
        try:
            return all(condition(node, agents.active_backends(box.paths, node)) for node in running)
        except (OSError, KubypassError):
            return False  # an agent that ends or starts just now; the deadline is the judge

    return wait_until(converged, CONVERGE_S)


def _served_slices(box: Box) -> list[_Slice]:
    """Slices of Services that agents serve: those with a ClusterIP."""
    objects = read_all(box.paths.manifests)
    services = [msgspec.convert(raw, _Service) for raw in objects if raw.get("kind") == "Service"]
    served = {(s.metadata.namespace, s.metadata.name) for s in services if s.is_served}
    slices = [msgspec.convert(raw, _Slice) for raw in objects if raw.get("kind") == "EndpointSlice"]
    return [each for each in slices if each.service in served]
