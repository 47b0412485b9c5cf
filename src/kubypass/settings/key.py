# SPDX-License-Identifier: Apache-2.0
"""What is known of one key of the configuration, and how a field of a settings group carries it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a value may be, for people and for the parser."""

    words: str
    """Such as `true or false` or `number of entries`."""
    parse: Callable[[str], Any]
    """Reads the text; ValueError says what is allowed."""


def _never(_: object) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration."""

    name: str
    type: str
    """The words of its Kind."""
    default: str
    """The default as it would be written; empty if there is none."""
    doc: str
    parse: Callable[[str], object] = dataclasses.field(repr=False, compare=False)
    choices: tuple[str, ...] = ()
    deprecated_values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values that are still understood, each with a note for the operator."""
    alias_of: str = ""
    """The key to write instead of this one."""
    effect: str = ""
    """Empty if the setting does what `doc` says; otherwise a sentence that says what it does not do, and why."""
    ignored: Callable[[Any], bool] = dataclasses.field(default=_never, repr=False, compare=False)
    """Whether a value asks for what `effect` says is not done."""
    live: bool = False
    """Whether a running agent takes over a changed value from the ConfigMap that it follows."""
    inherited_by: tuple[str, ...] = ()
    """Keys that take this key's value where they are 0, or where this key is given and they are not."""
    path: str = ""
    """Where Settings has the value: group and field, such as `sockets.host_only`."""


def setting(
    name: str,
    kind: Kind,
    value: object,
    default: str,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    deprecated_values: Mapping[str, str] | None = None,
    effect: str = "",
    ignored: Callable[[Any], bool] = _never,
    live: bool = False,
    inherited_by: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401 - takes the type of its field
    """Make a field of a settings group that carries its key."""
    key = Key(
        name,
        kind.words,
        default,
        doc,
        kind.parse,
        choices,
        deprecated_values or {},
        effect=effect,
        ignored=ignored,
        live=live,
        inherited_by=inherited_by,
    )
    return dataclasses.field(default=value, metadata={"key": key})
