# SPDX-License-Identifier: Apache-2.0
"""`kubypass box list`: the boxes that there are, and half a box is one that is not complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubypass.cli import main
from kubypass_lab.box import boxes, paths


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (boxes, paths):
        monkeypatch.setattr(module, "RUN", tmp_path / "box")
    monkeypatch.setattr(boxes, "cluster_names", list)
    return tmp_path / "box"


def test_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run.exists()
    assert main(["box", "list"]) == 0
    assert capsys.readouterr().out == "no box; make one: kubypass box up\n"
    assert main(["box", "list", "-o", "json"]) == 0
    assert capsys.readouterr().out == '{\n  "boxes": []\n}\n'


def test_half_a_box(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "web").mkdir(parents=True)
    assert main(["box", "list"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "KIND", "NODES", "STATE"]
    assert row.split(maxsplit=3) == [
        "web", "manifests", "-", "not complete; kubypass box down --name web",
    ]  # fmt: skip
