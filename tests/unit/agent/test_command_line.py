# SPDX-License-Identifier: Apache-2.0
"""What every command has in common."""

from __future__ import annotations

import sys

import pytest

from kubypass.cli import COMMANDS, LAB_COMMANDS, main
from kubypass.version import VERSION


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_the_version(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"kubypass {VERSION}, libbpf ")


@pytest.mark.parametrize("command", [*COMMANDS, *LAB_COMMANDS])
def test_help_of_every_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: kubypass {command}" in capsys.readouterr().out


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nonsense"])
    assert ended.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_a_command_of_a_package_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert main(["box", "list"]) == 2
    said = capsys.readouterr().err
    assert said == "kubypass: box is not installed; pip install 'kubypass[lab]'\n"
