# SPDX-License-Identifier: Apache-2.0
"""The pods of this node, as their network interfaces were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubypass.model.address import Address

INTERFACE_PREFIX = "lxc"
"""How the name of a pod's device on the node begins."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of this node with its own network namespace."""

    namespace: str
    name: str
    uid: str
    addresses: tuple[Address, ...]
    interface: str
    """The veth device on the node's side, such as `lxc1234`."""
    mac: str
    """The MAC address on the pod's side, `aa:bb:cc:dd:ee:ff`."""
    netns: str = ""
    """The path of its network namespace, such as `/run/netns/cni-1234`; empty if it is not known."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""


@dataclass(frozen=True, slots=True)
class PodMetadata:
    """The part of a pod's object that its network interface does not show. The pod is on this node."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""

    def of(self, pod: Pod) -> Pod:
        """The pod with this metadata; unchanged if it is another pod of the same name."""
        if self.uid and pod.uid and self.uid != pod.uid:
            return pod
        return replace(
            pod,
            labels={**pod.labels, **self.labels},
            annotations={**pod.annotations, **self.annotations},
            runtime_class=self.runtime_class or pod.runtime_class,
        )


def with_metadata(
    pods: Iterable[Pod], metadata: Mapping[tuple[str, str], PodMetadata]
) -> list[Pod]:
    """The pods, completed by the metadata of their objects, which is by namespace and name."""
    found = []
    for pod in pods:
        known = metadata.get((pod.namespace, pod.name))
        found.append(known.of(pod) if known else pod)
    return found
