# SPDX-License-Identifier: Apache-2.0
"""The record that a box keeps of each pod."""

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
    """One pod: where it runs, what runs in it, and its state."""

    namespace: str
    name: str
    uid: str
    node: str
    owner: str  # key of the Deployment or of the Pod
    template: str  # hash of the pod template
    created: float  # seconds since the epoch
    labels: dict[str, str]
    containers: tuple[Container, ...]
    addresses: tuple[str, ...]
    interface: str  # the node's end of the pod's link
    state: PodState = "starting"
    processes: tuple[Process, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    runtime_class: str = ""

    @property
    def id(self) -> str:
        """An identifier that is unique in the box and names the pod's namespace, cgroup and files."""
        return f"{self.namespace}.{self.name}"

    @property
    def ports(self) -> tuple[ContainerPort, ...]:
        """The ports that the pod's containers declare."""
        return tuple(port for container in self.containers for port in container.ports or ())

    def ip_addresses(self) -> list[IPAddress]:
        """The pod's addresses, parsed."""
        return [ipaddress.ip_address(text) for text in self.addresses]


def read_pods(paths: BoxPaths) -> list[PodRecord]:
    """All pods of the box, oldest first."""
    pods = [msgspec.convert(raw, PodRecord) for raw in read_all(paths.pods)]
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def write_pod(paths: BoxPaths, pod: PodRecord) -> None:
    """Write the record of a new or changed pod."""
    write_json(paths.pods / f"{pod.id}.json", msgspec.to_builtins(pod))


def pod_directory(paths: BoxPaths, pod: PodRecord) -> Path:
    """The directory of a pod's files and logs."""
    return paths.pods / pod.id


def forget_pod(paths: BoxPaths, pod: PodRecord) -> None:
    """Remove a pod's record."""
    (paths.pods / f"{pod.id}.json").unlink(missing_ok=True)
