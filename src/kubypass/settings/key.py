# SPDX-License-Identifier: Apache-2.0
"""What is known of one key of the configuration, and how a field of Settings carries it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration."""

    name: str
    field: str
    """Of Settings."""
    type: str
    """For people: `true or false`, `number of entries`…"""
    default: str
    """As it would be written; empty if there is none."""
    doc: str
    parse: Callable[[str], object] = dataclasses.field(repr=False, compare=False)
    choices: tuple[str, ...] = ()
    deprecated_values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Still understood, and what to know about each."""
    alias_of: str = ""
    """The key to write instead."""
    effect: str = ""
    """Empty if the setting does what it says; otherwise what it does not do."""
    live: bool = False
    """Whether a running agent takes over a changed value (of a ConfigMap that it follows)."""


def setting(
    name: str,
    kind: tuple[str, Callable[[str], Any]],
    value: object,
    default: str,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    deprecated_values: Mapping[str, str] | None = None,
    effect: str = "",
    live: bool = False,
) -> Any:  # noqa: ANN401 - takes the type of its field
    """Make a field of Settings that carries its key."""
    key = Key(
        name, "", kind[0], default, doc, kind[1], choices, deprecated_values or {}, "", effect, live
    )
    return dataclasses.field(default=value, metadata={"key": key})
