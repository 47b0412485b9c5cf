# SPDX-License-Identifier: Apache-2.0
"""Pods of this node, as their network interfaces were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubypass.model.address import Address


@dataclass(frozen=True, slots=True)
class Pod:
    """A local pod with its own network namespace."""

    namespace: str
    name: str
    uid: str
    addresses: tuple[Address, ...]
    interface: str
    """The veth on the node's side, such as `lxc1234`."""
    mac: str
    """Of the pod's side, `aa:bb:cc:dd:ee:ff`."""
    netns: str = ""
    """Where its network namespace is found, such as `/run/netns/cni-1234`; empty where nobody said."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""


@dataclass(frozen=True, slots=True)
class PodTraits:
    """What the object of a pod of this node says, and its interface does not."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str = ""

    def of(self, pod: Pod) -> Pod:
        """The pod with these traits; unchanged where it is another one of the same name."""
        if self.uid and pod.uid and self.uid != pod.uid:
            return pod
        return replace(
            pod,
            labels={**pod.labels, **self.labels},
            annotations={**pod.annotations, **self.annotations},
            runtime_class=self.runtime_class or pod.runtime_class,
        )


def with_traits(pods: Iterable[Pod], traits: Mapping[tuple[str, str], PodTraits]) -> list[Pod]:
    """Pods with what their objects say of them, by namespace and name."""
    found = []
    for pod in pods:
        known = traits.get((pod.namespace, pod.name))
        found.append(known.of(pod) if known else pod)
    return found
