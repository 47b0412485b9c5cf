# SPDX-License-Identifier: Apache-2.0
"""Docstrings stand by themselves, and commits say why."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.sources import GENERATED, MODULES, ROOT, TEST_FILES, name_of

FRAGMENT = re.compile(r"(?:Of|Those|And|But|Or|As|Also|So|Their|In order) |The same,")
"""The beginning of what hangs on the line above it, which nobody sees in a hover box."""
BODIES_SINCE = "2026-11-30"
"""The day from which on every commit has a body."""


def docstrings(path: Path) -> Iterator[ast.Expr]:
    """Texts at the head of something, and those below a field or a constant."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for each in body if isinstance(body, list) else ():
            match each:
                case ast.Expr(value=ast.Constant(value=str())):
                    yield each


def fault_of(text: str) -> str:
    """What a machine sees of a docstring that is no sentence."""
    first = text.strip().partition("\n\n")[0].rstrip()
    if FRAGMENT.match(first):
        return "a fragment"
    return "" if first.endswith((".", "?", "!", ":")) else "no full stop"


@pytest.mark.parametrize(
    "text", ["Of each family.", "Those of a node.", "No stop", "The same, else."]
)
def test_fragments_are_seen(text: str) -> None:
    assert fault_of(text)


def test_docstrings_stand_by_themselves() -> None:
    wrong = [
        f"{name_of(path)}:{each.lineno}: {fault}"
        for path in [*MODULES, *(path for path in TEST_FILES if path.suffix == ".py")]
        if path not in GENERATED
        for each in docstrings(path)
        if (fault := fault_of(ast.literal_eval(each.value)))
    ]
    assert not wrong


def git(*words: str) -> str:
    """The output of git; empty where this is no checkout."""
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, check=False, cwd=ROOT
    ).stdout


def test_commits_say_why() -> None:
    if git("rev-parse", "--is-shallow-repository").strip() != "false":
        pytest.skip("no history here")
    log = git("log", "--no-merges", f"--since={BODIES_SINCE}", "--format=%h %s%x00%b%x01")
    commits = [entry.partition("\0") for entry in log.split("\1") if entry.strip()]
    assert not [subject.strip() for subject, _, body in commits if not body.strip()]
