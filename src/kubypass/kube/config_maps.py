# SPDX-License-Identifier: Apache-2.0
"""Settings in ConfigMaps: one for all nodes, and others in its namespace for some nodes, by their labels.

A ConfigMap for some nodes has the label `kubypass.io/node-config: "true"` and the annotation
`kubypass.io/node-selector`, a label selector; its keys go over those for all. Of several that select a node, the last
by name counts. It is what Cilium's CiliumNodeConfig is (`spec.nodeSelector`, `spec.defaults`), without a definition
to install.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from kubypass.errors import ConfigError
from kubypass.kube import wire
from kubypass.kube.watch.resources import Item, Resource
from kubypass.model.config_map import ConfigMap
from kubypass.model.problem import Problem
from kubypass.model.selector import matches, parse_selector

if TYPE_CHECKING:
    from kubypass.kube.manifests.parser import ObjectKey

NODE_CONFIG_LABEL: Final = "kubypass.io/node-config"
NODE_SELECTOR: Final = "kubypass.io/node-selector"
FOR_ALL: Final = "ConfigMap"
FOR_SOME: Final = "NodeConfig"
"""Kinds of keys, of the one for all nodes and of those for some."""


@dataclass(frozen=True, slots=True)
class ConfigMapName:
    """Where settings are."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_name(text: str) -> ConfigMapName:
    """From `namespace/name`."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        hint = "expected NAMESPACE/NAME, such as kube-system/kubypass-config"
        raise ConfigError(f"--config-map {text}: not the name of a ConfigMap", hint)
    return ConfigMapName(namespace, name)


def config_resources(place: ConfigMapName) -> tuple[Resource, ...]:
    """What to follow."""
    name, label = f"metadata.name={place.name}", f"{NODE_CONFIG_LABEL}=true"
    one, some = (("fieldSelector", name),), (("labelSelector", label),)
    return (
        Resource("configmaps", FOR_ALL, namespace=place.namespace, selectors=one),
        Resource(
            "configmaps", FOR_SOME, namespace=place.namespace, selectors=some, title="node configs"
        ),
    )


_DECODER: Final = msgspec.json.Decoder(wire.ConfigMap)


def read_config_item(resource: Resource, content: msgspec.Raw, gone: bool) -> Item:
    """A ConfigMap; cannot fail."""
    try:
        source = _DECODER.decode(content)
    except msgspec.DecodeError as error:
        return Item((), "", Problem("ConfigMap without a name", " ".join(str(error).split())))
    metadata = source.metadata or wire.Metadata()
    key = (resource.kind, resource.namespace, metadata.name)
    selector = (metadata.annotations or {}).get(NODE_SELECTOR)
    values = {name: value.strip() for name, value in (source.data or {}).items()}
    text = None if gone else ConfigMap(metadata.name, values, selector)
    return Item(((key, text),), metadata.resource_version or "")


def merge(
    texts: Mapping[ObjectKey, ConfigMap], labels: Mapping[str, str]
) -> tuple[dict[str, str] | None, tuple[str, ...], tuple[Problem, ...]]:
    """The values for a node with these labels (None: there is no ConfigMap for all), where from, and problems."""
    ordered = sorted(texts.items())
    merged = next((dict(text.values) for key, text in ordered if key[0] == FOR_ALL), None)
    names: list[str] = []
    problems: list[Problem] = []
    for key, text in ordered:
        if key[0] != FOR_SOME:
            continue
        try:
            selected = text.selector and matches(parse_selector(text.selector), labels)
        except ValueError as error:
            problems.append(_unselective(key, f"annotation {NODE_SELECTOR}: {error}"))
            continue
        if not text.selector:
            missing = f"annotation {NODE_SELECTOR} is missing; expected a label selector"
            problems.append(_unselective(key, missing))
        elif selected and merged is not None:
            merged.update(text.values)
            names.append(text.name)
    return merged, tuple(names), tuple(problems)


def _unselective(key: ObjectKey, message: str) -> Problem:
    return Problem(f"ConfigMap {key[1]}/{key[2]}", f"{message}; it is for no node until then")


def differences(
    before: Mapping[str, str], after: Mapping[str, str]
) -> Iterable[tuple[str, str | None, str | None]]:
    """Keys whose values differ, with both; None where there is none."""
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)
