# SPDX-License-Identifier: Apache-2.0
"""Names say what things are, are used, and are those of the field."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.house.sources import C_SOURCES, GENERATED, MODULES, ROOT, TEST_FILES, name_of

PYTHON = [
    *MODULES,
    *(path for path in TEST_FILES if path.suffix == ".py"),
    *ROOT.glob("scripts/*.py"),
    ROOT / "scripts/build-image",
]
ENTRIES: list[str] = []
"""Names that only something outside of Python uses."""
C_DEFINITION = re.compile(
    r"^(?:static |__always_inline |struct |enum |union |#define )+(?:[\w*]+ )*\**(\w+)",
    re.MULTILINE,
)
FORBIDDEN = frozenset(
    (
        "arrive",
        "ask_former",
        "Begun",
        "carried",
        "carry",
        "common",
        "Course",
        "Crashed",
        "endings",
        "Facts",
        "flow_applies",
        "following",
        "former",
        "handler",
        "held",
        "helper",
        "helpers",
        "hold_piece",
        "keep_apart",
        "let_go",
        "let_us_open",
        "manager",
        "News",
        "Numbers",
        "octets",
        "piece",
        "pieces",
        "Place",
        "PodTraits",
        "portless",
        "Reading",
        "release_pieces",
        "reunion",
        "signals_held",
        "signals_let_in",
        "story",
        "stranger",
        "tell_story",
        "touch_flow",
        "unserved",
        "util",
        "utils",
        "way",
        "way_to",
        "ways",
    )
)
"""Words that the field has better ones for, or that meant two things."""
FORBIDDEN_IN_BPF = FORBIDDEN | {"answer", "message", "source", "endpoint", "endpoints"}


def test_link_local_addresses_are_asked_for_by_name() -> None:
    old = re.compile(r'b"[\\]xfe[\\]x80')
    assert old.search(r'address[:2] != b"\xfe\x80"')
    assert not [path for path in MODULES if old.search(path.read_text())], "use is_ipv6_link_local"


def _uses(tree: ast.AST) -> Counter[str]:
    """Names in code, and how often: neither docstrings nor comments count."""
    found: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found[node.id] += 1
        elif isinstance(node, ast.Attribute):
            found[node.attr] += 1
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
    return found


def _defined(node: ast.stmt) -> list[str]:
    """Public names that a statement of a module makes."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            names = [node.name]
        case ast.Assign():
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            names = [name]
        case _:
            names = []
    return [name for name in names if not name.startswith("_")]


def test_no_public_name_is_dead() -> None:
    trees = {path: ast.parse(path.read_text()) for path in PYTHON}
    uses: Counter[str] = sum((_uses(tree) for tree in trees.values()), Counter())
    dead = [
        f"{name_of(path)}: {name}"
        for path in MODULES
        if path not in GENERATED
        for node in trees[path].body
        for name in _defined(node)
        if uses[name] == _uses(node)[name]
    ]
    assert sorted(dead) == sorted(ENTRIES)


def _names_in_python(path: Path) -> set[str]:
    """The file, and its functions and classes."""
    return {path.stem} | {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _names_in_c(path: Path) -> set[str]:
    """The file, and all that it defines."""
    return {path.name.partition(".")[0], *C_DEFINITION.findall(path.read_text())}


def test_words_of_before_do_not_come_back() -> None:
    found = {name_of(path): _names_in_python(path) & FORBIDDEN for path in PYTHON}
    assert not {file: names for file, names in found.items() if names}


def test_nor_do_they_in_bpf() -> None:
    found = {name_of(path): _names_in_c(path) & FORBIDDEN_IN_BPF for path in C_SOURCES}
    assert not {file: names for file, names in found.items() if names}
