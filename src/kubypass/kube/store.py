# SPDX-License-Identifier: Apache-2.0
"""The objects of a cluster, by what asks for them; where they come from is not known here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from kubypass.kube.snapshot import Snapshot
from kubypass.model.config_map import ConfigMap
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod, pod_key
from kubypass.model.node import Node
from kubypass.model.pod import PodTraits
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey

if TYPE_CHECKING:
    from kubypass.kube.manifests.parser import Object, ObjectKey

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(slots=True)
class Dirty:
    """What has to be looked at again."""

    services: set[ServiceKey] = field(default_factory=set)
    """Changed themselves, or a slice of theirs did; pods with ports of their node too."""
    nodes: set[str] = field(default_factory=set)
    pods: bool = False
    """Whether a pod's traits changed."""
    settings: bool = False


class Cluster:
    """Its tables are shown by snapshots while they change."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.slices: dict[ServiceKey, tuple[EndpointSlice, ...]] = {}
        self.pods: dict[ServiceKey, HostPortPod] = {}
        self.nodes: dict[str, Node] = {}
        self.traits: dict[ServiceKey, PodTraits] = {}
        self.settings: dict[ObjectKey, ConfigMap] = {}

    def snapshot(self, problems: tuple[Problem, ...]) -> Snapshot:
        """Views of all objects."""
        return Snapshot(self.services, self.slices, self.nodes, problems, self.pods, self.traits)

    def store(self, key: ObjectKey, old: Object | None, new: Object | None, dirty: Dirty) -> None:
        """Put `new` (None: it is gone) in the place of `old`."""
        kind, namespace, name = key
        if kind == "Node":
            dirty.nodes.add(name)
            _put(self.nodes, name, new if isinstance(new, Node) else None)
        elif kind == "Service":
            dirty.services.add((namespace, name))
            _put(self.services, (namespace, name), new if isinstance(new, Service) else None)
        elif kind == "Pod":
            dirty.services.add(pod_key(namespace, name))
            _put(self.pods, pod_key(namespace, name), new if isinstance(new, HostPortPod) else None)
        elif kind == "PodTraits":
            dirty.pods = True
            _put(self.traits, (namespace, name), new if isinstance(new, PodTraits) else None)
        elif isinstance(new or old, ConfigMap):
            dirty.settings = True
            _put(self.settings, key, new if isinstance(new, ConfigMap) else None)
        if isinstance(old, EndpointSlice):
            dirty.services.add((namespace, old.service))
            self._drop_slice(old)
        if isinstance(new, EndpointSlice):
            dirty.services.add((namespace, new.service))
            self._add_slice(new)

    def _add_slice(self, item: EndpointSlice) -> None:
        key = (item.namespace, item.service)
        present = self.slices.get(key)
        if present is None:
            self.slices[key] = (item,)
        else:
            self.slices[key] = tuple(sorted((*present, item), key=_slice_name))

    def _drop_slice(self, item: EndpointSlice) -> None:
        key = (item.namespace, item.service)
        rest = tuple(other for other in self.slices[key] if other.name != item.name)
        if rest:
            self.slices[key] = rest
        else:
            del self.slices[key]


def _slice_name(item: EndpointSlice) -> str:
    return item.name


def _put(table: dict[Key, Item], key: Key, item: Item | None) -> None:
    if item is None:
        table.pop(key, None)
    else:
        table[key] = item
