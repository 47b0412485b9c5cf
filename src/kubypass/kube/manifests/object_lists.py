# SPDX-License-Identifier: Apache-2.0
"""Objects given by hand, as lists of each kind; apiVersion and kind need not be said again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kubypass.kube.manifests.merged_files import Registry
from kubypass.kube.manifests.parser import Reading
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty

LISTS: Final = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
}


def snapshot_of(lists: Mapping[str, Iterable[object]]) -> Snapshot:
    """The cluster that these objects are, by the names in LISTS; what cannot be used is in its problems."""
    items = [(*LISTS[name], content) for name, contents in lists.items() for content in contents]
    registry = Registry()
    registry.replace("objects", Reading().read_items("objects", items), Dirty())
    return registry.snapshot()
