# SPDX-License-Identifier: Apache-2.0
"""Linters, type checker and formatters have nothing to say."""

from __future__ import annotations

import subprocess

import pytest

from tests.house.sources import C_SOURCES, MODULES, ROOT, TEST_FILES, TOOLS


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "src", "lab", "tests", "scripts"],
        ["ruff", "format", "--check", "src", "lab", "tests", "scripts"],
        ["mypy"],
        [
            "codespell",
            "src",
            "lab",
            "bpf",
            "docs",
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
        ],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_linters_agree(command: list[str]) -> None:
    result = subprocess.run(
        [TOOLS / command[0], *command[1:]], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_every_source_names_its_licence() -> None:
    for path in [*MODULES, *(path for path in TEST_FILES if path.suffix == ".py")]:
        assert path.read_text().startswith("# SPDX-License-Identifier: Apache-2.0\n"), path
    for path in (ROOT / "cni").glob("*.c"):
        assert path.read_text().startswith("// SPDX-License-Identifier: Apache-2.0\n"), path
    for path in C_SOURCES:
        assert "SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)" in path.read_text(), path
