# SPDX-License-Identifier: Apache-2.0
"""Read settings from files.

Settings are in a directory with a file for each key (a mounted ConfigMap), in a YAML file with the keys at its top,
or in a YAML or JSON file that has the ConfigMap itself. settings/check.py says what the values mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubypass.errors import ConfigError
from kubypass.settings.check import check_settings
from kubypass.settings.finding import Finding
from kubypass.settings.settings import Settings

_CONFIG_MAP = "cilium-config"


class _Loader(yaml.CSafeLoader):
    """Reads YAML as everybody does, but refuses a key that is written twice: the second value would hide the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str) and key.value != "<<":
                problem = f"{key.value} is written twice; remove one"
                raise yaml.constructor.ConstructorError(
                    problem=problem, problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class SettingsText:
    """What a file says, as text that was not checked yet."""

    values: Mapping[str, object] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    """A finding for each value that cannot be read as text; the level of all is `wrong`."""


def load_settings(
    path: str | Path | None, overrides: Iterable[str] = ()
) -> tuple[Settings, tuple[Finding, ...]]:
    """Read settings from a path; `--key=value` arguments take precedence. Raises ConfigError for a wrong value."""
    settings, findings = inspect_settings(path, overrides)
    for finding in findings:
        if finding.level == "wrong":
            origin = f" ({path})" if path is not None else ""
            raise ConfigError(f"{finding}{origin}")
    return settings, findings


def inspect_settings(
    path: str | Path | None, overrides: Iterable[str] = ()
) -> tuple[Settings, tuple[Finding, ...]]:
    """Read settings as load_settings does, but report wrong values as findings, and use their defaults."""
    text = read_settings(path) if path is not None else SettingsText()
    given = parse_overrides(overrides)
    settings, findings = check_settings({**text.values, **given})
    wrong = tuple(finding for finding in text.findings if finding.key not in given)
    return settings, wrong + findings


def parse_overrides(arguments: Iterable[str]) -> dict[str, str]:
    """Read `--key=value` arguments. A key alone is true, as with Cilium's agent."""
    values: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(
                f"{argument!r}: expected --key=value", hint="keys are in docs/settings.md"
            )
        values[key] = value if equals else "true"
    return values


def read_settings(path: str | Path) -> SettingsText:
    """Return what the path says. Raises ConfigError if it has no settings at all."""
    source = Path(path)
    try:
        if source.is_dir():
            return _read_directory(source)
        content = source.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"--config {path}: {reason}", hint="give a file or a directory"
        ) from error
    return _read_yaml(source, content)


def _read_directory(directory: Path) -> SettingsText:
    """Read a file for each key. Hidden files are skipped: Kubernetes uses them to swap mounted ConfigMaps."""
    values: dict[str, object] = {}
    findings: list[Finding] = []
    for entry in sorted(directory.iterdir()):
        if entry.name.startswith(".") or not entry.is_file():
            continue
        try:
            values[entry.name] = entry.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            message = f"{entry} cannot be read as text; expected a readable UTF-8 file"
            findings.append(Finding(entry.name, "", "wrong", message))
    return SettingsText(values, tuple(findings))


def _read_yaml(source: Path, content: bytes) -> SettingsText:
    hint = "expected keys with values, or the ConfigMap cilium-config"
    try:
        found = [part for part in yaml.load_all(content, Loader=_Loader) if part is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise ConfigError(f"--config {source}: not YAML{place}: {problem}", hint=hint) from error
    maps = [item for part in found for item in _config_maps(part)]
    if maps:
        named = [item for item in maps if _name(item) == _CONFIG_MAP]
        return _read_config_map(source, (named or maps)[0])
    if not found:
        return SettingsText()
    block = found[0]
    if len(found) > 1 or not isinstance(block, dict) or "kind" in block:
        raise ConfigError(f"--config {source}: no settings in it", hint=hint)
    return SettingsText({str(key): value for key, value in block.items() if value is not None})


def _config_maps(part: object) -> list[dict[object, object]]:
    """Return the ConfigMaps of a YAML document, also those in lists."""
    if not isinstance(part, dict):
        return []
    if part.get("kind") == "ConfigMap":
        return [part]
    items = part.get("items") if str(part.get("kind", "")).endswith("List") else None
    return [item for entry in items or () for item in _config_maps(entry)]


def _name(item: Mapping[object, object]) -> object:
    metadata = item.get("metadata")
    return metadata.get("name") if isinstance(metadata, dict) else None


def _read_config_map(source: Path, item: Mapping[object, object]) -> SettingsText:
    """Read a ConfigMap. A value that is not text is wrong, because Kubernetes refuses it."""
    data = item.get("data")
    if data is None:
        return SettingsText()
    if not isinstance(data, dict):
        raise ConfigError(
            f"--config {source}: data is no mapping", hint="expected keys with values in quotes"
        )
    values: dict[str, object] = {}
    findings: list[Finding] = []
    for key, value in data.items():
        if isinstance(value, str):
            values[str(key)] = value.strip()
        else:
            written = str(value).lower() if isinstance(value, bool) else str(value)
            message = f'values of a ConfigMap are text; write it in quotes, "{written}"'
            findings.append(Finding(str(key), written, "wrong", message))
    return SettingsText(values, tuple(findings))
