# SPDX-License-Identifier: Apache-2.0
"""Read settings from text, with a finding for each key that was given."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from kubypass.settings.cilium_features import lost_by
from kubypass.settings.cilium_keys import CILIUM_KEYS
from kubypass.settings.contradictions import Contradiction, contradictions
from kubypass.settings.finding import Finding, Level
from kubypass.settings.key import Key
from kubypass.settings.parse import parse_bool
from kubypass.settings.settings import KEYS, Settings

_BY_KEY: Final = {key.name: key for key in KEYS}


def check_settings(given: Mapping[str, object]) -> tuple[Settings, tuple[Finding, ...]]:
    """Return settings from text (booleans and numbers are read too), and a finding for each key, in their order."""
    values: dict[str, object] = {}
    findings: list[Finding] = []
    for name, raw in given.items():
        text = _text(raw)
        if text is None:
            message = "expected text, a whole number, or true or false; put it in quotes"
            findings.append(Finding(name, str(raw), "wrong", message))
        elif name == "tunnel":
            findings.append(_check_tunnel(text))
        elif name in _BY_KEY:
            findings.append(_check_value(_BY_KEY[name], text, given, values))
        else:
            findings.append(_unlisted(name, text))
    settings = Settings().with_values({**values, **_inherited(values)})
    for found in contradictions(settings):
        findings, refused = _with_contradiction(findings, found)
        defaults = {_BY_KEY[key].path: Settings().value(_BY_KEY[key].path) for key in refused}
        settings = settings.with_values(defaults)
    return settings, tuple(findings)


def _with_contradiction(
    findings: list[Finding], found: Contradiction
) -> tuple[list[Finding], list[str]]:
    """Return the findings with a contradiction at each key that was given, and the keys whose values are refused."""
    result: list[Finding] = []
    refused: list[str] = []
    for finding in findings:
        key = _BY_KEY.get(finding.key)
        name = (key.alias_of or key.name) if key else ""
        if name not in found.keys or finding.level == "wrong":
            result.append(finding)
        elif found.level == "wrong":
            result.append(Finding(finding.key, finding.value, "wrong", found.message))
            refused.append(name)
        else:
            first = finding.level == "accepted"
            level, messages = (
                (found.level, "") if first else (finding.level, f"{finding.message}; ")
            )
            result.append(Finding(finding.key, finding.value, level, messages + found.message))
    return result, refused


def _inherited(values: Mapping[str, object]) -> dict[str, object]:
    """Values that keys inherit from another key: where they are 0, or where only the other key is given."""
    found: dict[str, object] = {}
    for general in KEYS:
        for path in (_BY_KEY[name].path for name in general.inherited_by):
            if values.get(path) == 0 or (path not in values and general.path in values):
                found[path] = values.get(general.path, Settings().value(general.path))
    return found


def _text(raw: object) -> str | None:
    if raw is None:
        return ""
    if isinstance(raw, bool):
        return "true" if raw else "false"
    return str(raw).strip() if isinstance(raw, (str, int, float)) else None


def _check_value(
    key: Key, text: str, given: Mapping[str, object], values: dict[str, object]
) -> Finding:
    if key.alias_of and key.alias_of in given:
        message = f"{key.alias_of} is given too and counts; remove this one"
        return Finding(key.name, text, "deprecated", message)
    try:
        values[key.path] = key.parse(_plain(key, text))
    except ValueError as error:
        if key.name == "routing-mode":
            message = f"{error}: kubypass has no tunnels, pods are routed natively only"
        elif key.choices and not str(error).startswith(f"{text}: "):
            message = "expected " + " or ".join(f'"{choice}"' for choice in key.choices)
        else:
            message = str(error)
        return Finding(key.name, text, "wrong", message)
    if key.alias_of:
        effect = f"; {key.effect}" if key.effect else ""
        return Finding(key.name, text, "deprecated", f"write {key.alias_of}{effect}")
    if text in key.deprecated_values:
        return Finding(key.name, text, "deprecated", key.deprecated_values[text])
    if key.name == "kube-proxy-replacement" and values[key.path] == "false":
        message = "only ClusterIPs, only for pods: no NodePorts, no external addresses"
        return Finding(key.name, text, "accepted", message)
    level: Level = "ignored" if key.ignored(values[key.path]) else "accepted"
    return Finding(key.name, text, level, key.effect)


def _plain(key: Key, text: str) -> str:
    """Return `true` for `True` and `1`, where `true` is one of the choices."""
    if "true" in key.choices and text not in key.deprecated_values:
        return "true" if parse_bool(text) else "false"
    return text


def _check_tunnel(text: str) -> Finding:
    if text == "disabled":
        return Finding("tunnel", text, "deprecated", 'write routing-mode: "native"')
    message = 'expected "disabled": kubypass has no tunnels, pods are routed natively only'
    return Finding("tunnel", text, "wrong", message)


def _unlisted(name: str, text: str) -> Finding:
    if name in CILIUM_KEYS:
        if lost := lost_by(name, text):
            return Finding(name, text, "ignored", lost)
        return Finding(name, text, "accepted", "a key of Cilium's that kubypass does not need")
    close = difflib.get_close_matches(name, _BY_KEY, n=1, cutoff=0.8)
    message = f"unknown key; did you mean {close[0]}?" if close else "unknown key; it has no effect"
    return Finding(name, text, "unknown", message)
