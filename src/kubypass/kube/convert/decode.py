# SPDX-License-Identifier: Apache-2.0
"""Decodes one object, as JSON or as what YAML made of it, into its wire type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
import yaml

from kubypass.kube import wire

if TYPE_CHECKING:
    from kubypass.kube.store import ObjectKey

Decoded = TypeVar("Decoded")

_TEXTS: Final = frozenset({"labels", "annotations", "data"})
_MAX_NOTES: Final = 20
_MAX_NOTE: Final = 400
_decoders: dict[type, Any] = {}


class MalformedError(Exception):
    """A file or an object cannot be read. The message is for the user."""


class _Named(msgspec.Struct, gc=False):
    metadata: wire.Metadata | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One object that is not decoded yet. It is decoded only if its apiVersion and kind are of use."""

    api_version: str
    kind: str
    content: object
    """JSON text (bytes or msgspec.Raw), or a parsed YAML value."""

    def decode(self, wanted: type[Decoded]) -> Decoded:
        """The object as this type. Raises MalformedError, which names the field.

        What is null is unset, as for an API server, also where a type has no null.
        """
        try:
            try:
                return self._decode(wanted)
            except msgspec.ValidationError:
                return msgspec.convert(_without_nulls(self._parsed(), {}), wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(one_line(error)) from error

    def _decode(self, wanted: type[Decoded]) -> Decoded:
        if isinstance(self.content, (bytes, msgspec.Raw)):
            return json_decoder(wanted).decode(self.content)
        return msgspec.convert(self.content, wanted)

    def _parsed(self) -> object:
        if isinstance(self.content, (bytes, msgspec.Raw)):
            return msgspec.json.decode(self.content)
        return self.content


def _without_nulls(
    value: object, done: dict[tuple[int, bool], object], *, texts: bool = False
) -> object:
    """The value without nulls; `texts`: it maps texts to texts, and null is the empty one.

    `done` has the parts that are done, by identity: a part that YAML's aliases repeat is one object, and stays one.
    """
    if not isinstance(value, (dict, list)):
        return value
    key = (id(value), texts)
    if key not in done:
        if isinstance(value, list):
            done[key] = [_without_nulls(item, done) for item in value if item is not None]
        else:
            done[key] = {
                name: "" if item is None else _without_nulls(item, done, texts=name in _TEXTS)
                for name, item in value.items()
                if item is not None or texts
            }
    return done[key]


def json_decoder(wanted: type[Decoded]) -> msgspec.json.Decoder[Decoded]:
    """The decoder of a type; each is made once."""
    found: msgspec.json.Decoder[Decoded] | None = _decoders.get(wanted)
    if found is None:
        found = _decoders[wanted] = msgspec.json.Decoder(wanted)
    return found


def decode(
    document: Document, wanted: type[wire.WireObject], notes: list[str]
) -> tuple[wire.WireObject | None, ObjectKey | None]:
    """The object and its key. Each is None if it cannot be read, and a note says why."""
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
    """The notes in one line of limited length."""
    shown = [n if len(n) <= _MAX_NOTE else f"{n[:_MAX_NOTE]}…" for n in notes[:_MAX_NOTES]]
    if len(notes) > _MAX_NOTES:
        shown.append(f"and {len(notes) - _MAX_NOTES} more")
    return "; ".join(shown)


def one_line(error: Exception) -> str:
    """An error of a JSON or YAML parser, with line and column where YAML gives them."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem}, line {mark.line + 1} column {mark.column + 1}"
    return " ".join(str(error).split())


def _namespace(kind: str, metadata: wire.Metadata) -> str:
    return "" if kind == "Node" else metadata.namespace or "default"


def _key_of(document: Document) -> ObjectKey | None:
    """The key of an object that is wrong elsewhere, if its metadata can be read."""
    try:
        metadata = document.decode(_Named).metadata
    except MalformedError:
        return None
    if metadata is None or not metadata.name:
        return None
    return (document.kind, _namespace(document.kind, metadata), metadata.name)
