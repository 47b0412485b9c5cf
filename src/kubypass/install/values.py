# SPDX-License-Identifier: Apache-2.0
"""Merges the chart's values as helm does: defaults, then files, then `--set` (ADR 10)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kubypass.errors import ConfigError
from kubypass.install.chart import default_values, values_schema
from kubypass.install.schema import Schema, member, types_of, violations

_DOT = re.compile(r"(?<!\\)\.")
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_HINT = "the chart's values.yaml describes every value"


def read_values(files: Iterable[Path], settings: Iterable[str]) -> dict[str, Any]:
    """All values. `settings` are KEY=VALUE. ConfigError: a value is wrong; the message names it."""
    values = default_values()
    for path in files:
        values = _merge(values, _read_file(path))
    schema = values_schema()
    for setting in settings:
        values = _merge(values, _parse_setting(setting, schema))
    for violation in violations(values, schema):
        raise ConfigError(violation, _HINT)
    return values


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigError(f"--values {path}: {error.strerror}", "give a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        position = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"--values {path}: not YAML{position}", _HINT) from None
    if not isinstance(found, dict | None):
        raise ConfigError(f"--values {path}: no values in it", _HINT)
    return found or {}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key and replace all other values. null removes a key."""
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _parse_setting(setting: str, schema: Schema) -> dict[str, Any]:
    """Parse `a.b=c`. A backslash before a dot makes the dot part of the key.

    The schema decides the type of the value.
    """
    name, equals, text = setting.partition("=")
    keys = [key.replace("\\.", ".") for key in _DOT.split(name)]
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {setting}: expected KEY=VALUE, such as k8sServiceHost=192.168.1.10"
        )
    found: Schema | None = schema
    for key in keys:
        found = member(found, key) if found is not None else None
    values = {keys[-1]: _parse_value(text, types_of(found or {}))}
    for key in reversed(keys[:-1]):
        values = {key: values}
    return values


def _parse_value(text: str, types: tuple[str, ...]) -> object:
    if text.startswith("{") and text.endswith("}"):
        return [each.strip() for each in text[1:-1].split(",")] if text != "{}" else []
    if text == "null" or types != ("string",):
        number = text.isascii() and text.isdigit()
        return int(text) if number else _WORDS.get(text, text)
    return text
