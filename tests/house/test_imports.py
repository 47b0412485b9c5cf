# SPDX-License-Identifier: Apache-2.0
"""A room imports only the rooms below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.house.sources import LAB, LAB_MODULES, PRODUCT_MODULES, SOURCE, TEST_FILES, name_of

MAY_IMPORT = {
    "model": set(),
    "settings": {"model"},
    "kernel": set(),
    "plan": {"model", "settings"},
    "node": {"model", "settings", "kernel"},
    "kube": {"model"},
    "api": {"model"},
    "install": {"model", "settings", "kube"},
    "connectivity": {"model", "kube"},
    "datapath": {"model", "settings", "plan", "kernel"},
    "trace": {"model", "settings", "plan", "kernel", "datapath", "node", "kube", "api"},
    "cni": {"model", "kernel"},
    "agent": {"model", "settings", "plan", "kernel", "datapath", "node", "kube", "api", "cni"},
    "cli": {
        "model",
        "settings",
        "datapath",
        "kernel",
        "kube",
        "agent",
        "api",
        "trace",
        "install",
        "connectivity",
    },
}
LAB_MAY_IMPORT = {
    "box": {"model", "kernel", "kube", "api"},
    "bench": {"model", "kernel", "kube", "box"},
    "cli": {"cli", "box", "bench"},
}
"""The rooms of the lab: rooms of kubypass and of the lab that each may import."""


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def _rooms(path: Path, package: str) -> set[str]:
    return {name.split(".")[1] for name in _imports(path) if name.startswith(f"{package}.")}


@pytest.mark.parametrize("path", PRODUCT_MODULES, ids=name_of)
def test_imports_only_go_down(path: Path) -> None:
    assert not any(name.startswith("kubypass_lab") for name in _imports(path))
    room = path.relative_to(SOURCE).parts[0]
    if room not in MAY_IMPORT:
        return
    assert _rooms(path, "kubypass") & MAY_IMPORT.keys() <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", LAB_MODULES, ids=name_of)
def test_imports_of_the_lab_only_go_down(path: Path) -> None:
    room = path.relative_to(LAB).parts[0]
    if room not in LAB_MAY_IMPORT:
        return
    rooms = _rooms(path, "kubypass") & MAY_IMPORT.keys()
    rooms |= _rooms(path, "kubypass_lab") & LAB_MAY_IMPORT.keys()
    assert rooms <= LAB_MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", [path for path in TEST_FILES if path.suffix == ".py"], ids=name_of)
def test_no_file_imports_a_test_file(path: Path) -> None:
    """What two test files need is in a file that says what it is."""
    assert not [
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.rpartition(".")[2].startswith("test_")
    ]
