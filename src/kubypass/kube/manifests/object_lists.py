# SPDX-License-Identifier: Apache-2.0
"""Makes a snapshot from lists of objects, one list for each kind. The objects need not repeat apiVersion and kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from kubypass.kube.manifests.merged_files import MergedFiles
from kubypass.kube.manifests.parser import Parser
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty

LISTS: Final = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "nodes": ("v1", "Node"),
    "pods": ("v1", "Pod"),
}


def snapshot_of(lists: Mapping[str, Iterable[object]]) -> Snapshot:
    """The cluster with these objects, listed under the names in LISTS. Its problems name unusable objects."""
    items = [(*LISTS[name], content) for name, contents in lists.items() for content in contents]
    files = MergedFiles()
    files.replace("objects", Parser().parse_items("objects", items), Dirty())
    return files.snapshot()
