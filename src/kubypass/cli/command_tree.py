# SPDX-License-Identifier: Apache-2.0
"""The parser as data: commands below commands, with their options. Completion scripts and the manual are made of it."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FILES = {"DIR", "FILE", "PATH", "KUBEKEY.yaml"}
"""Metavariables of files and directories."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option or an argument of a command."""

    flags: tuple[str, ...]
    """Empty for an argument, which has its place instead."""
    value: str
    """The name of its value; empty where it takes none."""
    help: str
    choices: tuple[str, ...] = ()
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what may follow it."""

    words: tuple[str, ...]
    """From `kubypass` on."""
    help: str
    description: str
    epilog: str
    options: tuple[Option, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """The words as one line."""
        return " ".join(self.words)

    def walk(self) -> Iterator[Command]:
        """The command, and every one below it, in order."""
        yield self
        for command in self.commands:
            yield from command.walk()


def command_tree(parser: argparse.ArgumentParser, text: str = "") -> Command:
    """The command that the parser parses; `text` is its help of one line."""
    commands: list[Command] = []
    options: list[Option] = []
    for action in parser._actions:  # noqa: SLF001 (argparse shows its actions nowhere else)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 (its only name)
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
            commands += [command_tree(sub, texts[name]) for name, sub in action.choices.items()]
        elif action.help != argparse.SUPPRESS:
            options.append(_option(action))
    words = tuple(parser.prog.split())
    said = (parser.description or "").strip(), (parser.epilog or "").strip()
    return Command(words, text, *said, tuple(options), tuple(commands))


def _option(action: argparse.Action) -> Option:
    takes_value = action.nargs != 0
    meta = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.metavar is None and action.choices:
        meta = "|".join(map(str, action.choices))
    return Option(
        tuple(action.option_strings),
        meta if takes_value else "",
        _help(action),
        tuple(map(str, action.choices or ())),
        meta in _FILES or action.type is Path,
    )


def _help(action: argparse.Action) -> str:
    """The help with its default, which is the same on every machine."""
    default = "the host's name" if action.default == socket.gethostname() else str(action.default)
    return " ".join((action.help or "").replace("%(default)s", default).replace("%%", "%").split())
