# SPDX-License-Identifier: Apache-2.0
"""`kubypass completion SHELL`: a script that completes every command and option, or the manual page.

For one session: `source <(kubypass completion bash)`, `source <(kubypass completion zsh)`, or
`kubypass completion fish | source`. The package installs them for every session, and the manual page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from kubypass.cli.command_tree import Command, command_tree
from kubypass.cli.manual import manual
from kubypass.cli.shells import bash_script, fish_script, zsh_script

_WRITERS: dict[str, Callable[[Command], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
    "man": manual,
}
FILES = {"bash": "kubypass.bash", "zsh": "_kubypass", "fish": "kubypass.fish", "man": "kubypass.1"}
"""The names of the files that the package installs (deploy/shell)."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "completion", help="completion for bash, zsh and fish; the manual page", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("shell", choices=tuple(_WRITERS), help="what to write")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from kubypass.cli import COMMANDS, installed_lab_commands

    print(written(arguments.shell, [*COMMANDS, *installed_lab_commands()]), end="")
    return 0


def written(kind: str, names: Iterable[str]) -> str:
    """The script, or the page, of these commands."""
    from kubypass.cli import whole_parser

    return _WRITERS[kind](command_tree(whole_parser(names)))


def main() -> None:
    """Writes the files of the package into the directory that the command line names."""
    from kubypass.cli import COMMANDS

    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for kind, name in FILES.items():
        (directory / name).write_text(written(kind, COMMANDS))


if __name__ == "__main__":
    main()
