# SPDX-License-Identifier: Apache-2.0
"""What one file says: its services, slices, nodes and pods, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from kubypass.kube import wire
from kubypass.kube.convert.pod import convert_pod
from kubypass.kube.convert.service import (
    convert_node,
    convert_service,
    convert_slice,
    is_selected,
)
from kubypass.kube.manifests.documents import Document, MalformedError, documents, yaml_parts
from kubypass.model.config_map import ConfigMap
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod
from kubypass.model.node import Node
from kubypass.model.pod import PodTraits
from kubypass.model.problem import Problem
from kubypass.model.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

ObjectKey = tuple[str, str, str]
"""Kind, namespace (empty for nodes) and name."""

Object = Service | EndpointSlice | Node | HostPortPod | PodTraits | ConfigMap


@dataclass(slots=True)
class Contents:
    """Of one file; never changed once it is read."""

    objects: dict[ObjectKey, Object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    """Objects of kinds that are not used, or that belong to another proxy."""


EMPTY: Final = Contents()

_MAX_NOTES: Final = 20
_MAX_NOTE: Final = 400


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read."""

    proxy_name: str = ""
    """Value of the label `service-proxy-name` of objects to take; empty: those without it."""
    every_pod: bool = False
    """Pods without ports of their node are taken, too."""
    names: dict[str, str] = field(default_factory=dict)
    """Strings that occur often, each held once."""

    def read(self, label: str, content: bytes, last_good: Contents) -> Contents:
        """Read a file's content; `label` is how it is called in problems.

        A file that cannot be read as a whole keeps what it said last; so does an object.
        """
        is_json = label.endswith(".json")
        found = Contents()
        try:
            self._add(found, label, documents(content, is_json=is_json), last_good)
        except MalformedError as error:
            if last_good.objects:
                message = f"{error}; expected Kubernetes objects; the last good content is kept"
                return Contents(
                    last_good.objects, [Problem(f"File {label}", message)], last_good.ignored
                )
            return self._salvage(label, [] if is_json else yaml_parts(content), str(error))
        return found

    def read_items(self, label: str, items: Iterable[tuple[str, str, object]]) -> Contents:
        """Objects that are no file's: apiVersion, kind and content (JSON text, or what it means) of each."""
        found = Contents()
        self._add(found, label, (Document(*item) for item in items), EMPTY)
        return found

    def _salvage(self, label: str, parts: list[bytes], message: str) -> Contents:
        """The documents of a malformed file that are good by themselves."""
        found = Contents()
        for part in parts:
            try:
                self._add(found, label, documents(part, is_json=False), EMPTY)
            except MalformedError:
                continue
        rest = f"the other {len(found.objects)} objects are used" if found.objects else "skipped"
        found.problems.insert(
            0, Problem(f"File {label}", f"{message}; expected Kubernetes objects; {rest}")
        )
        return found

    def _add(
        self, found: Contents, label: str, content: Iterable[Document], last_good: Contents
    ) -> None:
        for document in content:
            wanted = wire.KINDS.get((document.api_version, document.kind))
            if wanted is None:
                found.ignored += 1
                continue
            notes: list[str] = []
            key = self._read_object(found, document, wanted, notes)
            if notes:
                subject = _subject(key, document.kind, label)
                if key is not None and key not in found.objects and key in last_good.objects:
                    found.objects[key] = last_good.objects[key]
                    notes.append("the last good one is kept")
                found.problems.append(Problem(subject, summary(notes)))

    def _read_object(
        self, found: Contents, document: Document, wanted: type[wire.WireObject], notes: list[str]
    ) -> ObjectKey | None:
        """Add the object to `found`; its key, as far as it could be read."""
        source, key = decode(document, wanted, notes)
        if source is None or key is None:
            return key
        if key in found.objects:
            notes.append("appears twice in the file; the first one is used")
            return key
        converted = self.convert(source, notes)
        if converted is None:
            found.ignored += not notes
        else:
            found.objects[key] = converted
        return key

    def convert(self, source: wire.WireObject, notes: list[str]) -> Object | None:
        """The object as the model has it; None if it is of no use here."""
        if isinstance(source, wire.Node):
            return convert_node(source, notes)
        if isinstance(source, wire.Pod):
            return convert_pod(source, notes, every=self.every_pod)
        if not is_selected(source.metadata or wire.Metadata(), self.proxy_name):
            return None
        if isinstance(source, wire.Service):
            return convert_service(source, notes)
        return convert_slice(source, self.names, notes)


class _Named(msgspec.Struct, gc=False):
    metadata: wire.Metadata | None = None


def decode(
    document: Document, wanted: type[wire.WireObject], notes: list[str]
) -> tuple[wire.WireObject | None, ObjectKey | None]:
    """The object and its key, each None as far as it cannot be read."""
    try:
        source = document.decode(wanted)
    except MalformedError as error:
        notes.append(f"{error}; the object is skipped")
        return None, _key_of(document)
    metadata = source.metadata
    if metadata is None or not metadata.name:
        notes.append("metadata.name is missing; expected a name; the object is skipped")
        return None, None
    key = (document.kind, _namespace(document.kind, metadata), metadata.name)
    if "/" in f"{key[1]}{key[2]}":
        notes.append("a slash in a name or namespace; expected none; the object is skipped")
        return None, None
    return source, key


def summary(notes: list[str]) -> str:
    """One line, however much is wrong."""
    shown = [n if len(n) <= _MAX_NOTE else f"{n[:_MAX_NOTE]}…" for n in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        shown.append(f"and {len(notes) - _MAX_NOTES} more")
    return "; ".join(shown)


def _namespace(kind: str, metadata: wire.Metadata) -> str:
    return "" if kind == "Node" else metadata.namespace or "default"


def _key_of(document: Document) -> ObjectKey | None:
    """Of an object that is wrong elsewhere, if its metadata can be read."""
    try:
        metadata = document.decode(_Named).metadata
    except MalformedError:
        return None
    if metadata is None or not metadata.name:
        return None
    return (document.kind, _namespace(document.kind, metadata), metadata.name)


def _subject(key: ObjectKey | None, kind: str, label: str) -> str:
    if key is None:
        return f"{kind} in {label}"
    name = f"{key[1]}/{key[2]}" if key[1] else key[2]
    return f"{kind} {name} ({label})"
