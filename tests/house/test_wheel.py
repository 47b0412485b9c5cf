# SPDX-License-Identifier: Apache-2.0
"""What is in the wheel, and so in the image: the product alone, without its lab."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kubypass_lab.box.patience import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {path.parent.name for path in (ROOT / "src/kubypass").glob("*/__init__.py")}
NOT_PYTHON = {"bpf", "chart"}
"""Folders of the wheel that are filled from the checkout's other folders."""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--no-build-isolation", "-w", str(directory), str(ROOT)]
    subprocess.run(pip, check=True, timeout=DEADLINE_S)
    (wheel,) = directory.glob("kubypass-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_has_no_lab(names: list[str]) -> None:
    folders = {name.split("/")[1] for name in names if name.startswith("kubypass/")}
    assert {name for name in folders if "." not in name} == ROOMS | NOT_PYTHON
    assert not {"box", "bench"} & folders
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith((".dist-info", ".data"))} == {"kubypass"}


def test_the_wheel_has_completions_and_the_manual_where_shells_and_man_look(
    names: list[str],
) -> None:
    shared = {name.partition(".data/data/")[2] for name in names if ".data/" in name}
    assert shared == {
        "share/bash-completion/completions/kubypass",
        "share/zsh/site-functions/_kubypass",
        "share/fish/vendor_completions.d/kubypass.fish",
        "share/man/man1/kubypass.1",
    }
