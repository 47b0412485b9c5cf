# SPDX-License-Identifier: Apache-2.0
"""The shells themselves complete commands, options and values; man shows the page without a warning."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kubypass.cli import COMMANDS, whole_parser
from kubypass.cli.command_tree import command_tree
from kubypass.cli.completion import written
from kubypass_lab.box.patience import DEADLINE_S

LINES = [
    ("kubypass stat", {"status"}),
    ("kubypass service ", {"list"}),
    ("kubypass service list --po", {"--port"}),
    ("kubypass service list -n default --ty", {"--type"}),
    ("kubypass status -o ", {"text", "json"}),
    ("kubypass service list --output w", {"wide"}),
    ("kubypass completion f", {"fish"}),
    ("kubypass config check --o", {"--output"}),
    ("kubypass agent --manif", {"--manifests"}),
]
BASH = """
source "$1"
COMP_WORDS=("${@:2}"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_kubypass
printf '%s\\n' "${COMPREPLY[@]}"
"""


def has(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")


@pytest.mark.parametrize(("line", "wanted"), LINES)
def test_bash(tmp_path: Path, line: str, wanted: set[str]) -> None:
    script = tmp_path / "kubypass.bash"
    script.write_text(written("bash", COMMANDS))
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", script, *line.split(" ")],
        capture_output=True, text=True, check=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.stderr == ""
    assert {word for word in done.stdout.split() if not word.startswith("-h")} >= wanted
    if not line.endswith(" "):
        assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize(("line", "wanted"), LINES)
def test_fish(tmp_path: Path, line: str, wanted: set[str]) -> None:
    has("fish")
    script = tmp_path / "kubypass.fish"
    script.write_text(written("fish", COMMANDS))
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
        capture_output=True, text=True, check=True, timeout=DEADLINE_S,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr == ""
    assert {row.split("\t")[0] for row in done.stdout.splitlines()} >= wanted


def test_zsh_loads_it_and_knows_every_command(tmp_path: Path) -> None:
    has("zsh")
    script = tmp_path / "_kubypass"
    script.write_text(written("zsh", COMMANDS))
    shown = tmp_path / "shown.zsh"
    shown.write_text(f"""
        autoload -Uz compinit && compinit -u -D
        source {script}
        _describe() {{ print -l -- "${{(P@)3}}"; }}
        _files() {{ print FILES; }}
        _message() {{ print VALUE; }}
        compadd() {{ print -l -- "$@"; }}
        ask() {{ words=("$@"); CURRENT=$#; _kubypass; print END; }}
        ask kubypass ""; ask kubypass service list --type ""; ask kubypass status -o ""
        ask kubypass agent --manifests ""; ask kubypass service list ""
    """)
    done = subprocess.run(
        ["zsh", "-f", shown], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stderr == ""
    first, kind, output, files, listing, _ = done.stdout.split("END\n")
    assert {row.partition(":")[0] for row in first.splitlines()} >= set(COMMANDS)
    assert (kind, output, files) == ("VALUE\n", "text\njson\n", "FILES\n")
    assert "--port:frontends with this port only" in listing


def test_man_shows_the_page_without_a_warning(tmp_path: Path) -> None:
    has("groff")
    page = tmp_path / "kubypass.1"
    page.write_text(written("man", COMMANDS))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", page], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    text = done.stdout
    for command in command_tree(whole_parser(COMMANDS)).walk():
        if not command.commands:
            assert command.words[-1] in text


def test_every_option_has_a_help() -> None:
    tree = command_tree(whole_parser(COMMANDS))
    bare = [
        f"{command.name} {option.flags or option.value}"
        for command in tree.walk()
        for option in command.options
        if not option.help and not option.choices
    ]
    assert bare == []
