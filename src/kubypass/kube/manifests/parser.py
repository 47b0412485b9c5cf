# SPDX-License-Identifier: Apache-2.0
"""Parses one manifest file: its Services, EndpointSlices, Nodes and Pods, and the problems with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kubypass.kube import wire
from kubypass.kube.convert.converter import Converter
from kubypass.kube.convert.decode import Document, MalformedError, decode, summary
from kubypass.kube.convert.last_good import keep_last_good
from kubypass.kube.manifests.documents import documents, yaml_parts
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubypass.kube.store import Object, ObjectKey


@dataclass(slots=True)
class ParsedFile:
    """The objects of one file. It does not change after the file was parsed."""

    objects: dict[ObjectKey, Object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    """How many objects are of kinds that are not used, or belong to another proxy."""


EMPTY: Final = ParsedFile()


@dataclass(frozen=True, slots=True)
class Parser:
    """Parses files with one converter."""

    converter: Converter = field(default_factory=Converter)

    def parse(self, label: str, content: bytes, last_good: ParsedFile) -> ParsedFile:
        """Parses the content of a file, which problems call `label`.

        A file that cannot be parsed keeps the objects of its last good content. An object that cannot be read keeps
        its last good state.
        """
        is_json = label.endswith(".json")
        parsed = ParsedFile()
        try:
            self._add(parsed, label, documents(content, is_json=is_json), last_good)
        except MalformedError as error:
            if last_good.objects:
                message = f"{error}; expected Kubernetes objects; the last good content is kept"
                return ParsedFile(
                    last_good.objects, [Problem(f"File {label}", message)], last_good.ignored
                )
            return self._salvage(label, [] if is_json else yaml_parts(content), str(error))
        return parsed

    def parse_items(self, label: str, items: Iterable[tuple[str, str, object]]) -> ParsedFile:
        """Parses objects without a file: apiVersion, kind and content (JSON text, or a parsed value) of each."""
        parsed = ParsedFile()
        self._add(parsed, label, (Document(*item) for item in items), EMPTY)
        return parsed

    def _salvage(self, label: str, parts: list[bytes], message: str) -> ParsedFile:
        """The documents of a malformed file that can be parsed on their own."""
        parsed = ParsedFile()
        for part in parts:
            try:
                self._add(parsed, label, documents(part, is_json=False), EMPTY)
            except MalformedError:
                continue
        count = len(parsed.objects)
        rest = f"the other {count} objects are used" if count else "skipped"
        parsed.problems.insert(
            0, Problem(f"File {label}", f"{message}; expected Kubernetes objects; {rest}")
        )
        return parsed

    def _add(
        self, parsed: ParsedFile, label: str, content: Iterable[Document], last_good: ParsedFile
    ) -> None:
        for document in content:
            wanted = wire.KINDS.get((document.api_version, document.kind))
            if wanted is None:
                parsed.ignored += 1
                continue
            notes: list[str] = []
            key = self._add_object(parsed, document, wanted, last_good, notes)
            if notes:
                subject = _subject(key, document.kind, label)
                if key is not None and key not in parsed.objects and key in last_good.objects:
                    parsed.objects[key] = last_good.objects[key]
                    notes.append("the last good one is kept")
                parsed.problems.append(Problem(subject, summary(notes)))

    def _add_object(
        self,
        parsed: ParsedFile,
        document: Document,
        wanted: type[wire.WireObject],
        last_good: ParsedFile,
        notes: list[str],
    ) -> ObjectKey | None:
        """Adds the object to `parsed`. Returns its key, or None if that cannot be read."""
        source, key = decode(document, wanted, notes)
        if source is None or key is None:
            return key
        if key in parsed.objects:
            notes.append("appears twice in the file; the first one is used")
            return key
        converted = self.converter.convert(source, notes)
        converted = keep_last_good(converted, last_good.objects.get(key), notes)
        if converted is None:
            parsed.ignored += not notes
        else:
            parsed.objects[key] = converted
        return key


def _subject(key: ObjectKey | None, kind: str, label: str) -> str:
    if key is None:
        return f"{kind} in {label}"
    name = f"{key[1]}/{key[2]}" if key[1] else key[2]
    return f"{kind} {name} ({label})"
