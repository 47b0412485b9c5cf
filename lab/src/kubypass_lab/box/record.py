# SPDX-License-Identifier: Apache-2.0
"""What a box writes down about each of its pods."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from kubypass_lab.box.files import read_all, write_json
from kubypass_lab.box.kubekey import IPAddress
from kubypass_lab.box.objects import Container, ContainerPort
from kubypass_lab.box.paths import BoxPaths
from kubypass_lab.box.process import Process

PodState = Literal["starting", "ready", "failed", "terminating"]


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One pod: where it runs, what runs in it, and how far it is."""

    namespace: str
    name: str
    uid: str
    node: str
    owner: str  # key of the Deployment, or of the Pod itself
    template: str  # hash of what it was made from
    created: float  # seconds since the epoch
    labels: dict[str, str]
    containers: tuple[Container, ...]
    addresses: tuple[str, ...]
    interface: str  # the node's end of its link
    state: PodState = "starting"
    processes: tuple[Process, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    runtime_class: str = ""

    @property
    def id(self) -> str:
        """Unique in the box; names its namespace, cgroup and files."""
        return f"{self.namespace}.{self.name}"

    @property
    def ports(self) -> tuple[ContainerPort, ...]:
        """Ports that its containers name."""
        return tuple(port for container in self.containers for port in container.ports or ())

    def ip_addresses(self) -> list[IPAddress]:
        """Its addresses, parsed."""
        return [ipaddress.ip_address(text) for text in self.addresses]


def read_pods(paths: BoxPaths) -> list[PodRecord]:
    """All pods of the box, oldest first."""
    pods = [msgspec.convert(raw, PodRecord) for raw in read_all(paths.pods)]
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def write_pod(paths: BoxPaths, pod: PodRecord) -> None:
    """Write a pod's record, new or changed."""
    write_json(paths.pods / f"{pod.id}.json", msgspec.to_builtins(pod))


def pod_directory(paths: BoxPaths, pod: PodRecord) -> Path:
    """Where a pod keeps its files and logs."""
    return paths.pods / pod.id


def forget_pod(paths: BoxPaths, pod: PodRecord) -> None:
    """Remove a pod's record."""
    (paths.pods / f"{pod.id}.json").unlink(missing_ok=True)
