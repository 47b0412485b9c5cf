# SPDX-License-Identifier: Apache-2.0
"""Files and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.house.sources import C_SOURCES, GENERATED, MODULES, ROOT, TEST_FILES, name_of

BPF_LINES = 6500
"""The whole data path, with every option."""


@pytest.mark.parametrize("path", [p for p in MODULES if p not in GENERATED], ids=name_of)
def test_modules_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} has over 50 lines"


@pytest.mark.parametrize("path", TEST_FILES, ids=name_of)
def test_test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", C_SOURCES, ids=name_of)
def test_bpf_sources_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 340
    for body in re.findall(r"^\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        assert body.count("\n") <= 50


def test_all_of_bpf_stays_small() -> None:
    assert sum(len(path.read_text().splitlines()) for path in C_SOURCES) <= BPF_LINES


def test_the_program_on_the_host_stays_small() -> None:
    assert len((ROOT / "cni/kubypass-cni.c").read_text().splitlines()) <= 300
