# SPDX-License-Identifier: Apache-2.0
"""Facts that several files have to state agree: the tree of errors, the version, names of files in documents."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from kubypass import errors
from kubypass.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/kubypass"


def drawn_tree(text: str) -> dict[str, str]:
    """Each class with the one above it, by the depth at which a docstring draws it."""
    above, parents = {}, {}
    for line in text.splitlines():
        if found := re.match(r"( +|[ │]+[├└]── )([A-Z]\w+)(?: {2}|$)", line):
            depth = len(found[1]) // 4
            above[depth] = found[2]
            parents[found[2]] = above.get(depth - 1, "")
    return parents


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    bases = {
        node.name: node.bases[0].id
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and len(node.bases) == 1 and hasattr(node.bases[0], "id")
    }
    tree = {"KubypassError": ""}
    while more := {name: base for name, base in bases.items() if base in tree and name not in tree}:
        tree |= more
    assert drawn_tree(errors.__doc__) == tree


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "deploy/helm/kubypass/Chart.yaml").read_text())
    manifests = (ROOT / "deploy/kubypass.yaml").read_text()
    container_file = (ROOT / "deploy/Containerfile").read_text()
    assert project == VERSION, "run: make install"
    assert {chart["version"], chart["appVersion"]} == {project}
    for text in (manifests, container_file):
        assert set(re.findall(r"kubypass/kubypass:([\w.]+)", text)) == {project}


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_documents_name_files_that_exist(document: str) -> None:
    """A path, or a file of bpf/, src/kubypass/ or tests/packet/ by its name there."""
    text = (ROOT / document).read_text()
    names = set(re.findall(r"`([\w/.-]+(?:\.[a-z]+|/))`", text))
    roots = (ROOT, ROOT / "bpf", SOURCE, ROOT / "tests/packet", SOURCE / "datapath")
    missing = [
        name
        for name in names
        if not any((root / name).exists() for root in roots) and not name.startswith(".")
    ]
    assert not missing
