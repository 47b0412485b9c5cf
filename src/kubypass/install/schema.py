# SPDX-License-Identifier: Apache-2.0
"""Checks values against the part of JSON Schema (draft 7) that values.schema.json uses, as helm does (ADR 10)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
}


def violations(value: object, schema: Schema, path: str = "") -> Iterator[str]:
    """One line for each wrong value, which names the value by its dotted path."""
    names = types_of(schema)
    if names and not any(_is(value, name) for name in names):
        yield f"{path or 'values'}: {_show(value)}: expected {' or '.join(names)}"
        return
    if isinstance(value, dict):
        yield from _object_violations(value, schema, path)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from violations(each, schema.get("items", {}), f"{path}[{index}]")
    else:
        yield from _scalar_violations(value, schema, path)


def types_of(schema: Schema) -> tuple[str, ...]:
    """The types that a value may have; empty for any type."""
    found = schema.get("type", ())
    return (found,) if isinstance(found, str) else tuple(found)


def member(schema: Schema, key: str) -> Schema | None:
    """The schema of an object's key; None if there is no such key."""
    known = schema.get("properties", {}).get(key)
    others = schema.get("additionalProperties", True)
    found = known if known is not None else ({} if others is True else others or None)
    return found if isinstance(found, dict) else None


def _is(value: object, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and not (name == "integer" and isinstance(value, bool))


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _object_violations(value: Mapping[str, object], schema: Schema, path: str) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{path}: {key} is missing"
    for key, each in value.items():
        dotted = f"{path}.{key}" if path else key
        found = member(schema, key)
        if found is None:
            known = ", ".join(schema.get("properties", {}))
            yield f"{dotted}: there is no such value; expected one of {known}"
        else:
            yield from violations(each, found, dotted)


def _scalar_violations(value: object, schema: Schema, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {_show(value)}: expected one of {', '.join(schema['enum'])}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: {_show(value)}: expected {schema['pattern']}"
    if isinstance(value, int):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high:
            yield (
                f"{path}: {value}: expected {low} to {high}"
                if high != value
                else (f"{path}: {value}: expected {low} or more")
            )
