# SPDX-License-Identifier: Apache-2.0
"""Converts Pods: to their host ports, and to the metadata that features of a single pod need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.kube import wire
from kubypass.kube.convert.fields import MAX_PORT, PROTOCOLS, read_addresses
from kubypass.model.address import UNSPECIFIED, Address, family, parse_address
from kubypass.model.host_port import HostPort, HostPortPod
from kubypass.model.pod import PodMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kubypass.model.service import ServiceKey

_SERVICE_LB = "svccontroller.k3s.cattle.io/"
_ENDED = {"Failed", "Succeeded"}


def convert_pod(source: wire.Pod, notes: list[str], *, every: bool = False) -> HostPortPod | None:
    """The pod if it runs and has host ports; `every` includes pods without host ports.

    A pod in the node's network namespace needs no host ports. Init containers count if they run beside the others
    (`restartPolicy: Always`).
    """
    metadata = source.metadata or wire.Metadata()
    spec = source.spec or wire.PodSpec()
    status = source.status or wire.PodStatus()
    if status.phase in _ENDED or not spec.node_name:
        return None
    ports: dict[HostPort, None] = {}
    for field, container in () if spec.host_network else _containers(spec):
        for index, port in enumerate(container.ports or ()):
            if port.host_port:
                found = _host_port(port, f"{field}.ports[{index}]", notes)
                ports.update(dict.fromkeys(found))
    if not ports and not every:
        return None
    texts = [entry.ip for entry in status.pod_ips or () if entry.ip] or (
        [status.pod_ip] if status.pod_ip else []
    )
    return HostPortPod(
        namespace=metadata.namespace or "default",
        name=metadata.name,
        node=spec.node_name,
        addresses=_one_of_each_family(read_addresses("status.podIPs", texts, notes)),
        ports=tuple(ports),
        terminating=bool(metadata.deletion_timestamp),
        created=metadata.creation_timestamp or "",
        balances=_balanced_service(metadata.labels or {}),
    )


def convert_pod_metadata(source: wire.Pod) -> PodMetadata:
    """The metadata of any pod."""
    metadata = source.metadata or wire.Metadata()
    spec = source.spec or wire.PodSpec()
    return PodMetadata(
        metadata.namespace or "default",
        metadata.name,
        metadata.uid or "",
        metadata.labels or {},
        metadata.annotations or {},
        spec.runtime_class_name or "",
    )


def _balanced_service(labels: Mapping[str, str]) -> ServiceKey | None:
    """The Service of a pod that k3s's ServiceLB made for it."""
    name, namespace = labels.get(f"{_SERVICE_LB}svcname"), labels.get(f"{_SERVICE_LB}svcnamespace")
    return (namespace, name) if name and namespace else None


def _containers(spec: wire.PodSpec) -> Iterator[tuple[str, wire.Container]]:
    """The containers that run as long as the pod does, each with the name of its field."""
    for index, container in enumerate(spec.containers or ()):
        yield f"spec.containers[{index}]", container
    for index, container in enumerate(spec.init_containers or ()):
        if container.restart_policy == "Always":
            yield f"spec.initContainers[{index}]", container


def _host_port(port: wire.ContainerPort, field: str, notes: list[str]) -> Iterator[HostPort]:
    """The host port, if it can be used."""
    protocol = PROTOCOLS.get(port.protocol)
    if protocol is None:
        notes.append(f"{field}.protocol is {port.protocol!r}; expected TCP, UDP or SCTP; left out")
        return
    for name, number in (("hostPort", port.host_port or 0), ("containerPort", port.container_port)):
        if not 0 < number <= MAX_PORT:
            notes.append(f"{field}.{name} is {number}; expected 1 to {MAX_PORT}; left out")
            return
    address: Address | None = None
    if port.host_ip:
        try:
            address = parse_address(port.host_ip)
        except ValueError as error:
            notes.append(f"{field}.hostIP: {error}; left out")
            return
    yield HostPort(address, port.host_port or 0, protocol, port.container_port)


def _one_of_each_family(found: Iterable[Address]) -> tuple[Address, ...]:
    first: dict[int, Address] = {}
    for address in found:
        if address not in UNSPECIFIED.values():
            first.setdefault(family(address), address)
    return tuple(first.values())
