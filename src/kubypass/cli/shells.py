# SPDX-License-Identifier: Apache-2.0
"""Completion scripts for bash, zsh and fish. They have every command and option in them and start no program. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from kubypass.cli.command_tree import Command, Option

_BASH = """\
# bash completion for kubypass: kubypass completion bash
_kubypass() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} place=kubypass words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$place $word" in
{places}
                place="$place $word" ;;
        esac
    done
    COMPREPLY=()
    case "$place $previous" in
{values}
    esac
    case "$place" in
{words}
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _kubypass kubypass
"""
_ZSH = """\
#compdef kubypass
# zsh completion for kubypass: kubypass completion zsh
_kubypass() {{
    local place=kubypass word
    local -a items
    for word in ${{words[2,CURRENT-1]}}; do
        case "$place $word" in
{places}
                place="$place $word" ;;
        esac
    done
    case "$place ${{words[CURRENT-1]}}" in
{values}
    esac
    case "$place" in
{words}
    esac
    _describe -o kubypass items || _files
}}
if [ "$funcstack[1]" = _kubypass ]; then
    _kubypass "$@"
else
    compdef _kubypass kubypass
fi
"""
_FISH = """\
# fish completion for kubypass: kubypass completion fish
function __kubypass_at
    set -l place kubypass
    for word in (commandline -opc)[2..-1]
        contains -- "$place $word" {places}; and set place "$place $word"
    end
    test "$place" = "$argv"
end
{lines}
"""


def bash_script(root: Command) -> str:
    """For bash: source it, or put it where bash-completion looks."""
    words = "\n".join(
        f"        {_quoted(c.name)}) words={_quoted(' '.join(_words(c)))} ;;" for c in root.walk()
    )
    return _BASH.format(
        places=_places(root), values="\n".join(_values(root, _bash_value)), words=words
    )


def _bash_value(option: Option) -> str:
    how = (
        f"-W {_quoted(' '.join(option.choices))}"
        if option.choices
        else "-f"
        if option.is_file
        else ""
    )
    return f'mapfile -t COMPREPLY < <(compgen {how} -- "$current"); return' if how else "return"


def zsh_script(root: Command) -> str:
    """For zsh: source it, or put it into a directory of `fpath` as `_kubypass`."""
    rows = []
    for command in root.walk():
        items = [
            *(_item(sub.words[-1], sub.help) for sub in command.commands),
            *(
                _item(choice, option.help)
                for option in command.options
                if not option.flags
                for choice in option.choices
            ),
            *(_item(flag, option.help) for option in command.options for flag in option.flags),
        ]
        rows.append(f"        {_quoted(command.name)}) items=({' '.join(map(_quoted, items))}) ;;")
    values = "\n".join(_values(root, _zsh_value))
    return _ZSH.format(places=_places(root), values=values, words="\n".join(rows))


def _zsh_value(option: Option) -> str:
    if option.choices:
        return f"compadd {' '.join(map(_quoted, option.choices))}; return"
    return "_files; return" if option.is_file else f"_message {_quoted(option.value)}; return"


def _item(word: str, text: str) -> str:
    return f"{word}:{text}"


def fish_script(root: Command) -> str:
    """For fish: source it, or put it into its directory of completions."""
    places = " ".join(_quoted(command.name) for command in root.walk() if command is not root)
    lines = [line for command in root.walk() for line in _fish_lines(command)]
    return _FISH.format(places=places, lines="\n".join(lines))


def _fish_lines(command: Command) -> Iterator[str]:
    start = f"complete -c kubypass -n {_quoted(f'__kubypass_at {command.name}')}"
    for sub in command.commands:
        yield f"{start} -f -a {_quoted(sub.words[-1])} -d {_quoted(sub.help)}"
    for option in command.options:
        if not option.flags:
            if option.choices:
                yield f"{start} -f -a {_quoted(' '.join(option.choices))} -d {_quoted(option.help)}"
            continue
        names = " ".join(
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
        )
        value = " -r" if option.is_file else " -x" if option.value else ""
        if option.choices:
            value += f" -a {_quoted(' '.join(option.choices))}"
        yield f"{start} {names}{value} -d {_quoted(option.help)}"


def _places(root: Command) -> str:
    """The patterns of all commands below the first."""
    names = [_quoted(command.name) for command in root.walk() if command is not root]
    return "            " + "|".join(names) + ")"


def _values(root: Command, say: Callable[[Option], str]) -> Iterator[str]:
    """What to do after each option that takes a value."""
    for command in root.walk():
        for option in command.options:
            if option.flags and option.value:
                pattern = "|".join(_quoted(f"{command.name} {flag}") for flag in option.flags)
                yield f"        {pattern}) {say(option)} ;;"


def _words(command: Command) -> list[str]:
    flags = [flag for option in command.options for flag in option.flags]
    places = [choice for option in command.options if not option.flags for choice in option.choices]
    return [*(sub.words[-1] for sub in command.commands), *places, *flags]


def _quoted(text: str) -> str:
    return shlex.quote(text)
