# SPDX-License-Identifier: Apache-2.0
"""Decides which pods the applied objects ask for, where a new pod runs, and which surplus pod is ended first."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubypass_lab.box import wiring
from kubypass_lab.box.addressing import next_pod_address
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import read_all, read_json, write_json
from kubypass_lab.box.kubekey import IPAddress
from kubypass_lab.box.object_files import Applied, parse_object, selects
from kubypass_lab.box.objects import (
    Container,
    ContainerPort,
    Deployment,
    Metadata,
    Pod,
    Service,
    TemplateMetadata,
)
from kubypass_lab.box.record import PodRecord, read_pods

HostPort = tuple[str, int, str]  # hostIP, number, protocol
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # as in Kubernetes' names: without vowels, so that no words appear


@dataclass(frozen=True, slots=True)
class Wanted:
    """The pods that one applied object asks for."""

    key: str
    namespace: str
    name: str  # the pod's name, or the prefix of the pods' names
    template: str
    replicas: int
    labels: dict[str, str]
    containers: tuple[Container, ...]
    fixed_name: bool  # true for a Pod, false for a Deployment
    annotations: dict[str, str]
    runtime_class: str
    node: str  # the node that they ask for; empty: any node

    @property
    def host_ports(self) -> set[HostPort]:
        """The host ports of each of the pods."""
        return {port for each in self.containers for port in host_ports(each)}


def host_ports(container: Container) -> set[HostPort]:
    """Ports of the node that a container asks for."""
    return {(p.host_ip, p.host_port, p.protocol) for p in container.ports or () if p.host_port}


def read_wanted(box: Box) -> dict[str, Wanted]:
    """The pods that all applied objects ask for, by the object's key."""
    result = {}
    for applied in _read_applied(box):
        want = _wanted(applied)
        if want is not None:
            result[want.key] = want
    return result


def choose_surplus(current: Iterable[PodRecord], count: int) -> list[PodRecord]:
    """Choose `count` pods to end: the newest pods of the node that has most of them."""
    chosen: list[PodRecord] = []
    remaining = list(current)
    for _ in range(max(count, 0)):
        load = Counter(pod.node for pod in remaining)
        victim = max(remaining, key=lambda pod: (load[pod.node], pod.created))
        remaining.remove(victim)
        chosen.append(victim)
    return chosen


def place(box: Box, want: Wanted) -> PodRecord:
    """Choose a name, addresses and a node for a new pod.

    The pod runs on the node that it asks for. Otherwise the node is chosen on which fewest pods have its host ports,
    then the one with the fewest pods of this object, then the one with the fewest pods.
    """
    records = read_pods(box.paths)
    busy = Counter(
        pod.node
        for pod in records
        if pod.state != "terminating"
        and any(want.host_ports & host_ports(each) for each in pod.containers)
    )
    mine = Counter(pod.node for pod in records if pod.owner == want.key)
    load = Counter(pod.node for pod in records)
    node = (
        box.topology.node(want.node)
        if want.node
        else min(box.nodes, key=lambda each: (busy[each.name], mine[each.name], load[each.name]))
    )
    taken = {address for pod in records for address in pod.ip_addresses()}
    last = _last_addresses(box, node.name)
    addresses = [next_pod_address(cidr, taken, last.get(cidr.version)) for cidr in node.pod_cidrs]
    write_json(_last_file(box, node.name), {str(each.version): str(each) for each in addresses})
    suffix = "".join(secrets.choice(_LETTERS) for _ in range(5))
    name = want.name if want.fixed_name else f"{want.name}-{want.template}-{suffix}"
    uid = secrets.token_hex(16)
    return PodRecord(
        namespace=want.namespace,
        name=name,
        uid=f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}",
        node=node.name,
        owner=want.key,
        template=want.template,
        created=time.time(),
        labels=want.labels,
        containers=want.containers,
        addresses=tuple(map(str, addresses)),
        annotations=want.annotations,
        runtime_class=want.runtime_class,
        interface=wiring.pod_interface(f"{want.namespace}/{name}/{uid}"),
    )


def unnamed_ports(box: Box, want: Wanted) -> tuple[ContainerPort, ...]:
    """The numeric targetPorts of the pod's Services that no container declares.

    Real images listen on them all the same: a containerPort is informational.
    """
    named = {(p.container_port, p.protocol) for c in want.containers for p in c.ports or ()}
    targets = {
        (port.target_port or port.port, port.protocol)
        for applied in _read_applied(box)
        if isinstance(service := applied.object, Service)
        and service.metadata.namespace == want.namespace
        and selects(service.spec.selector, want.labels)
        for port in service.spec.ports or ()
    }
    return tuple(
        ContainerPort(number, protocol=protocol)
        for number, protocol in sorted(targets - named, key=str)
        if isinstance(number, int)
    )


def _read_applied(box: Box) -> list[Applied]:
    objects = (parse_object(raw, "stored object") for raw in read_all(box.paths.objects))
    return [applied for applied in objects if applied is not None]


def _wanted(applied: Applied) -> Wanted | None:
    each = applied.object
    source: object = applied.raw
    metadata: Metadata | TemplateMetadata
    if isinstance(each, Pod):
        metadata, pod, replicas = each.metadata, each.spec, 1
    elif isinstance(each, Deployment):
        template, replicas = each.spec.template, each.spec.replicas
        metadata, pod = template.metadata, template.spec
        written = applied.raw["spec"]
        source = written["template"] if isinstance(written, dict) else None
    else:
        return None
    digest = hashlib.sha256(json.dumps(source, sort_keys=True, default=str).encode()).digest()
    return Wanted(
        key=applied.key,
        namespace=each.metadata.namespace,
        name=each.metadata.name,
        template="".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:5]),
        replicas=replicas,
        labels=metadata.labels or {},
        annotations=metadata.annotations or {},
        runtime_class=pod.runtime_class_name or "",
        containers=pod.containers,
        fixed_name=isinstance(each, Pod),
        node=pod.node_name,
    )


def _last_addresses(box: Box, node: str) -> dict[int, IPAddress]:
    """The address allocated last on a node, by IP version."""
    stored = read_json(_last_file(box, node)) or {}
    return {int(version): ipaddress.ip_address(str(text)) for version, text in stored.items()}


def _last_file(box: Box, node: str) -> Path:
    return box.paths.root / "addresses" / f"{node}.json"
