# SPDX-License-Identifier: Apache-2.0
"""Splits files into objects: JSON or multi-document YAML, single objects or lists, as `kubectl` writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import yaml

from kubypass.kube.convert.decode import Document, MalformedError, json_decoder, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".json", ".yaml", ".yml")

_MAX_DIGITS = 400
_CONSTRUCTOR_ERRORS = (ValueError, RecursionError, LookupError, TypeError, AttributeError)
"""PyYAML's constructors raise these for a value that does not fit its tag (`!!bool x`)."""

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


class _Peek(msgspec.Struct, gc=False, rename="camel"):
    kind: str | None = None
    api_version: str | None = None


class _List(msgspec.Struct, gc=False):
    items: list[msgspec.Raw] | None = None


class _YamlLoader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: dates, a lone `=`, `1:30` and numbers of more than _MAX_DIGITS digits stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, regexp) for tag, regexp in resolvers if not tag.endswith((":timestamp", ":value"))
        ]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def _number(loader: _YamlLoader, node: yaml.ScalarNode) -> object:
    text = node.value
    if ":" in text or len(text) > _MAX_DIGITS:
        return text
    as_float = node.tag.endswith(":float")
    return loader.construct_yaml_float(node) if as_float else loader.construct_yaml_int(node)


for _tag in ("int", "float"):
    _YamlLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _number)


def documents(content: bytes, *, is_json: bool) -> Iterator[Document]:
    """The objects of a file, also those in lists. Raises MalformedError where the file cannot be parsed further."""
    if is_json:
        if content.strip():
            yield from _json_documents(content)
        return
    for parsed in yaml_values(content):
        yield from _yaml_documents(parsed)


def yaml_values(content: bytes) -> Iterator[object]:
    """The parsed value of each document of a YAML file."""
    try:
        values = yaml.load_all(content.decode("utf-8-sig"), Loader=_YamlLoader)
        yield from values
    except (yaml.YAMLError, *_CONSTRUCTOR_ERRORS) as error:
        raise MalformedError(f"not YAML: {one_line(error)}") from error


def yaml_parts(content: bytes) -> list[bytes]:
    """The documents of a YAML file, split at their separators without parsing them."""
    text = content.decode("utf-8", "replace")
    return [part.encode() for part in _SEPARATOR.split(text) if part.strip()]


def _json_documents(content: bytes) -> Iterator[Document]:
    try:
        peek = json_decoder(_Peek).decode(content)
        if not _is_list(peek.kind):
            yield Document(peek.api_version or "", peek.kind or "", content)
            return
        default = _item_header(peek)
        for item in json_decoder(_List).decode(content).items or ():
            # The list was parsed as a whole: an item is valid JSON, but it may not be an object.
            try:
                found = json_decoder(_Peek).decode(item)
            except msgspec.ValidationError:
                found = _Peek()
            yield Document(
                found.api_version or default.api_version or "",
                found.kind or default.kind or "",
                item,
            )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"not a Kubernetes object in JSON: {one_line(error)}") from error


def _yaml_documents(parsed: object) -> Iterator[Document]:
    if parsed is None:
        return
    if not isinstance(parsed, dict):
        raise MalformedError(f"expected a Kubernetes object, found a {_name_of(parsed)}")
    peek = _yaml_peek(parsed)
    if not _is_list(peek.kind):
        yield Document(peek.api_version or "", peek.kind or "", parsed)
        return
    default = _item_header(peek)
    items = parsed.get("items")
    if items is not None and not isinstance(items, list):
        raise MalformedError(f"expected a list of items, found a {_name_of(items)}")
    for item in items or ():
        found = _yaml_peek(item) if isinstance(item, dict) else _Peek()
        yield Document(
            found.api_version or default.api_version or "", found.kind or default.kind or "", item
        )


def _yaml_peek(parsed: dict[object, object]) -> _Peek:
    kind, version = parsed.get("kind"), parsed.get("apiVersion")
    return _Peek(
        kind if isinstance(kind, str) else None, version if isinstance(version, str) else None
    )


def _is_list(kind: str | None) -> bool:
    return kind is not None and kind.endswith("List")


def _item_header(peek: _Peek) -> _Peek:
    """The kind and apiVersion of items that name none: the items of a ServiceList are Services."""
    kind = (peek.kind or "").removesuffix("List")
    return _Peek(kind or None, peek.api_version if kind else None)


def _name_of(parsed: object) -> str:
    return {"str": "text", "int": "number", "float": "number"}.get(
        type(parsed).__name__, type(parsed).__name__
    )
