# SPDX-License-Identifier: Apache-2.0
"""Settings in ConfigMaps: one for all nodes, and others in its namespace for nodes with certain labels.

A ConfigMap for some nodes has the label `kubypass.io/node-config: "true"` and the annotation
`kubypass.io/node-selector`, a label selector. Its keys override those for all nodes. If several select a node, they
apply in order of name, and the last one wins. Cilium's CiliumNodeConfig does the same (`spec.nodeSelector`,
`spec.defaults`), but needs a custom resource definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from kubypass.errors import ConfigError
from kubypass.kube import wire
from kubypass.kube.convert.decode import Document, MalformedError
from kubypass.kube.watch.resources import ObjectUpdate, Resource
from kubypass.model.config_map import ConfigMap
from kubypass.model.problem import Problem
from kubypass.model.selector import matches, parse_selector

if TYPE_CHECKING:
    from kubypass.kube.store import ObjectKey

NODE_CONFIG_LABEL: Final = "kubypass.io/node-config"
NODE_SELECTOR: Final = "kubypass.io/node-selector"
FOR_ALL: Final = "ConfigMap"
FOR_SOME: Final = "NodeConfig"
"""The kinds in the keys of ConfigMaps: the one for all nodes, and those for some."""


@dataclass(frozen=True, slots=True)
class ConfigMapName:
    """The ConfigMap for all nodes."""

    namespace: str
    name: str
    node_configs: tuple[str, ...] | None = None
    """The names of those for some nodes, which are then the only ones; None: every one with the label."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all that are read; empty where a label says which."""
        return () if self.node_configs is None else (self.name, *self.node_configs)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_name(text: str, node_configs: str | None = None) -> ConfigMapName:
    """Parses `namespace/name`, and the names of those for some nodes, with commas. Raises ConfigError."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        hint = "expected NAMESPACE/NAME, such as kube-system/kubypass-config"
        raise ConfigError(f"--config-map {text}: not the name of a ConfigMap", hint)
    if node_configs is None:
        return ConfigMapName(namespace, name)
    return ConfigMapName(namespace, name, tuple(filter(None, node_configs.split(","))))


def config_resources(config: ConfigMapName) -> tuple[Resource, ...]:
    """The resources to watch."""
    place = config.namespace
    one = Resource("configmaps", FOR_ALL, namespace=place, selectors=_named(config.name))
    if config.node_configs is None:
        labelled = (("labelSelector", f"{NODE_CONFIG_LABEL}=true"),)
        return one, Resource("configmaps", FOR_SOME, "", "v1", place, labelled, "node configs")
    return (
        one,
        *(
            Resource("configmaps", FOR_SOME, "", "v1", place, _named(name), f"node config {name}")
            for name in config.node_configs
        ),
    )


def _named(name: str) -> tuple[tuple[str, str], ...]:
    """The selector of one object, which RBAC's `resourceNames` admit."""
    return (("fieldSelector", f"metadata.name={name}"),)


def read_config_map(resource: Resource, content: msgspec.Raw, deleted: bool) -> ObjectUpdate:
    """Reads a ConfigMap. It cannot fail: what is wrong is in the update's problem."""
    try:
        source = Document("v1", "ConfigMap", content).decode(wire.ConfigMap)
    except MalformedError as error:
        return ObjectUpdate((), "", Problem("ConfigMap without a name", str(error)))
    metadata = source.metadata or wire.Metadata()
    key = (resource.kind, resource.namespace, metadata.name)
    selector = (metadata.annotations or {}).get(NODE_SELECTOR)
    values = {name: value.strip() for name, value in (source.data or {}).items()}
    config_map = None if deleted else ConfigMap(metadata.name, values, selector)
    return ObjectUpdate(((key, config_map),), metadata.resource_version or "")


def merge(
    config_maps: Mapping[ObjectKey, ConfigMap], labels: Mapping[str, str]
) -> tuple[dict[str, str] | None, tuple[str, ...], tuple[Problem, ...]]:
    """The values for a node with these labels, the names of the ConfigMaps that select it, and problems.

    The values are None if there is no ConfigMap for all nodes.
    """
    ordered = sorted(config_maps.items())
    merged = next((dict(item.values) for key, item in ordered if key[0] == FOR_ALL), None)
    names: list[str] = []
    problems: list[Problem] = []
    for key, item in ordered:
        if key[0] != FOR_SOME:
            continue
        try:
            selected = item.selector and matches(parse_selector(item.selector), labels)
        except ValueError as error:
            problems.append(_no_selector(key, f"annotation {NODE_SELECTOR}: {error}"))
            continue
        if not item.selector:
            missing = f"annotation {NODE_SELECTOR} is missing; expected a label selector"
            problems.append(_no_selector(key, missing))
        elif selected and merged is not None:
            merged.update(item.values)
            names.append(item.name)
    return merged, tuple(names), tuple(problems)


def _no_selector(key: ObjectKey, message: str) -> Problem:
    return Problem(f"ConfigMap {key[1]}/{key[2]}", f"{message}; it is for no node until then")


def differences(
    before: Mapping[str, str], after: Mapping[str, str]
) -> Iterable[tuple[str, str | None, str | None]]:
    """Yields each key whose values differ, with both values. A missing value is None."""
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)
