# SPDX-License-Identifier: Apache-2.0
"""The store of a cluster's objects, in a table for each kind. Sources write to it; snapshots show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from kubypass.kube.snapshot import Snapshot
from kubypass.model.config_map import ConfigMap
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod, pod_key
from kubypass.model.node import Node
from kubypass.model.pod import PodMetadata
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey

ObjectKey = tuple[str, str, str]
"""Kind, namespace (empty for nodes) and name."""

Object = Service | EndpointSlice | Node | HostPortPod | PodMetadata | ConfigMap

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(slots=True)
class Dirty:
    """What has changed and must be planned again."""

    services: set[ServiceKey] = field(default_factory=set)
    """Services that changed, or whose slices did; also the keys of pods with host ports."""
    nodes: set[str] = field(default_factory=set)
    pods: bool = False
    """Whether the metadata of a pod changed."""
    settings: bool = False
    """Whether a ConfigMap with settings changed."""


class Store:
    """Snapshots are views of these tables and show later changes."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, Service] = {}
        self.slices: dict[ServiceKey, tuple[EndpointSlice, ...]] = {}
        self.pods: dict[ServiceKey, HostPortPod] = {}
        self.nodes: dict[str, Node] = {}
        self.pod_metadata: dict[ServiceKey, PodMetadata] = {}
        self.config_maps: dict[ObjectKey, ConfigMap] = {}

    def snapshot(self, problems: tuple[Problem, ...]) -> Snapshot:
        """Views of all objects, with these problems."""
        return Snapshot(
            self.services, self.slices, self.nodes, problems, self.pods, self.pod_metadata
        )

    def put(self, key: ObjectKey, old: Object | None, new: Object | None, dirty: Dirty) -> None:
        """Replaces `old` with `new` (None: the object is gone). Adds to `dirty` what changes."""
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
        elif kind == "PodMetadata":
            dirty.pods = True
            metadata = new if isinstance(new, PodMetadata) else None
            _put(self.pod_metadata, (namespace, name), metadata)
        elif isinstance(new or old, ConfigMap):
            dirty.settings = True
            _put(self.config_maps, key, new if isinstance(new, ConfigMap) else None)
        if isinstance(old, EndpointSlice):
            dirty.services.add((namespace, old.service))
            self._remove_slice(old)
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

    def _remove_slice(self, item: EndpointSlice) -> None:
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
