# SPDX-License-Identifier: Apache-2.0
"""Files that are made from others are as new as these."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from kubypass.cli import COMMANDS
from kubypass.cli.completion import FILES, written
from kubypass.datapath.generate import constants_source, layout_source, verdict_source
from kubypass.kernel.btf import Btf
from tests.house.sources import ROOT, SOURCE, TOOLS


@pytest.mark.parametrize(
    ("generate", "path"),
    [
        (layout_source, "datapath/layout.py"),
        (verdict_source, "model/verdict.py"),
        (constants_source, "model/constants.py"),
    ],
)
def test_generated_sources_are_fresh(generate: Callable[[Btf], str], path: str) -> None:
    made = subprocess.run(
        [TOOLS / "ruff", "format", "-"],
        input=generate(Btf.of_object(ROOT / "build/bpf/abi.bpf.o")),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert made == (SOURCE / path).read_text(), "run make layout"


@pytest.mark.parametrize("kind", FILES)
def test_completions_and_the_manual_are_fresh(kind: str) -> None:
    made = written(kind, COMMANDS)
    assert made == (ROOT / "deploy/shell" / FILES[kind]).read_text(), "run make layout"
