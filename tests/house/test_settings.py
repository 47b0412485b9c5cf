# SPDX-License-Identifier: Apache-2.0
"""The rule of settings: each one is read by something, or declared without effect.

A setting is read where code outside of the settings room names it, as `settings.GROUP.FIELD`, or names a property of
`Settings` or of a group that reads it. What `agent/report` reads it only shows.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from kubypass.settings.key import Key
from kubypass.settings.settings import GROUPS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/kubypass"
ROOM, SHOWN = SOURCE / "settings", SOURCE / "agent/report"
OWN = [key for keys in GROUPS.values() for key in keys]
PATHS = {key.name: key.path for key in OWN}


def sources(*, shown: bool) -> dict[Path, str]:
    """The text of every module outside of the settings room; of those that only show settings, or of all others."""
    return {
        path: path.read_text()
        for path in SOURCE.rglob("*.py")
        if ROOM not in path.parents and (SHOWN in path.parents) == shown
    }


def _owner(node: ast.expr) -> str:
    """The last name of `a.b.settings`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name.lstrip("_")


def _named(tree: ast.AST, base: str) -> Iterable[str]:
    """What code names of `base`: `NAME` of `base.NAME`, and `GROUP.NAME` of `base.GROUP.NAME`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if _owner(node.value) == base:
            yield node.attr
        if isinstance(node.value, ast.Attribute) and _owner(node.value.value) == base:
            yield f"{node.value.attr}.{node.attr}"


def _methods(module: str, prefix: str = "") -> dict[str, set[str]]:
    """What each method of a settings class reads, by its path."""
    found: dict[str, set[str]] = {}
    for outer in ast.parse((ROOM / f"{module}.py").read_text()).body:
        for node in outer.body if isinstance(outer, ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef):
                found[prefix + node.name] = {prefix + name for name in _named(node, "self")}
    return found


METHODS = _methods("settings")
for group in {path.split(".")[0] for path in PATHS.values()}:
    METHODS |= _methods(group, f"{group}.")


def read(texts: Iterable[str]) -> set[str]:
    """The paths that these sources read, by name or by a property."""
    found: set[str] = set()
    todo = {name for text in texts for name in _named(ast.parse(text), "settings")}
    while todo:
        found |= todo
        todo = {name for path in todo for name in METHODS.get(path, ())} - found
    return found


def problem(key: Key, found: set[str]) -> str:
    """What is wrong with a key, where these paths are read by the code that acts on settings."""
    is_read = any(path in found for path in (key.path, *map(PATHS.get, key.inherited_by)))
    if key.effect:
        return f"{key.path} is read, and declared without effect" if is_read else ""
    return "" if is_read else f"nothing reads settings.{key.path}; declare its effect"


ACTING = sources(shown=False)
READ = read(ACTING.values())


@pytest.mark.parametrize("key", OWN, ids=lambda key: key.name)
def test_each_setting_is_read_or_without_effect(key: Key) -> None:
    assert not problem(key, READ)


@pytest.mark.parametrize("name", ["direct-routing-skip-unreachable", "enable-host-port", "mtu"])
def test_a_setting_that_loses_its_readers_is_noticed(name: str) -> None:
    key = next(key for key in OWN if key.name == name)
    names = {"enable-host-port": "services.with_host_ports"}.get(name, key.path)
    without = {path: text.replace(f"settings.{names}", "False") for path, text in ACTING.items()}
    assert without != ACTING
    found = read(without.values())
    assert problem(key, found) == f"nothing reads settings.{key.path}; declare its effect"


def test_a_reader_of_a_setting_without_effect_is_noticed() -> None:
    key = next(key for key in OWN if key.name == "routing-mode")
    assert problem(key, read(["settings.routing.mode"])).endswith("declared without effect")


def test_an_effect_is_a_sentence() -> None:
    for key in OWN:
        assert not key.effect or key.effect.startswith(("no effect: ", "no effect yet: ")), key.name
