# SPDX-License-Identifier: Apache-2.0
"""Reads the labels of a box's Node objects, and changes them as `kubectl label node` does."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.errors import ConfigError
from kubypass_lab.box.box import Box, node_manifest
from kubypass_lab.box.files import Json, locked, mapping, read_json, write_json
from kubypass_lab.box.topology import ZONE_LABEL


def read_zones(manifests: Iterable[Json]) -> dict[str, str]:
    """Maps each node that has a zone to its zone."""
    zones = {}
    for raw in manifests:
        metadata = mapping(raw.get("metadata"))
        zone = mapping(metadata.get("labels")).get(ZONE_LABEL)
        if raw.get("kind") == "Node" and zone:
            zones[str(metadata["name"])] = str(zone)
    return zones


def label_node(box: Box, name: str, changes: Iterable[str]) -> None:
    """Apply changes to a node's labels: `key=value` sets one, `key-` removes one."""
    try:
        node = box.topology.node(name)
    except KeyError:
        names = ", ".join(each.alias for each in box.nodes)
        raise ConfigError(f"{name}: no such node", f"nodes are {names}") from None
    path = node_manifest(box.paths, node)
    with locked(box.paths.root):
        raw = read_json(path) or {}
        metadata = mapping(raw.get("metadata"))
        labels = dict(mapping(metadata.get("labels")))
        for change in changes:
            key, equals, value = change.partition("=")
            if equals and key:
                labels[key] = value
            elif change.endswith("-"):
                labels.pop(change[:-1], None)
            else:
                raise ConfigError(f"{change}: expected KEY=VALUE, or KEY- to take it away")
        write_json(path, {**raw, "metadata": {**metadata, "labels": labels}})
