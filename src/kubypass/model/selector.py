# SPDX-License-Identifier: Apache-2.0
"""Label selectors as text, in the grammar of `kubectl get --selector`.

Requirements with commas between them, all of which must hold: `key`, `!key`, `key=value` (or `==`),
`key!=value`, `key in (a,b)`, `key notin (a,b)`, `key>5`, `key<5`. `!=` and `notin` hold for objects
without the key too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Operator = Literal["exists", "absent", "in", "notin", ">", "<"]

_PREFIX = r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?"
_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"\s*({_PREFIX}{_NAME})\s*", re.ASCII)
_WORD: Final = re.compile(rf"(?:{_NAME})?", re.ASCII)
_SET: Final = re.compile(r"(in|notin)\s*\(([^()]*)\)\s*")
_COMPARISON: Final = re.compile(r"(==|=|!=|>|<)\s*([^,\s]*)\s*")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one part of a selector requires of a label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet the requirement."""
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator == "absent":
            return value is None
        if self.operator == "in":
            return value in self.values
        if self.operator == "notin":
            return value not in self.values
        if value is None or not _NUMBER.fullmatch(value):
            return False
        wanted = int(self.values[0])
        return int(value) > wanted if self.operator == ">" else int(value) < wanted


Selector = tuple[Requirement, ...]
"""A selector matches labels that meet every requirement. An empty one matches all labels."""


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether an object with these labels is selected."""
    return all(requirement.holds(labels) for requirement in selector)


def parse_selector(text: str) -> Selector:
    """Read a selector. ValueError says what is wrong with the text."""
    found: list[Requirement] = []
    position = 0
    if not text.strip():
        return ()
    while True:
        requirement, position = _parse_requirement(text, position)
        found.append(requirement)
        if position == len(text):
            return tuple(found)
        if text[position] != ",":
            raise _wrong(text, position)
        position += 1


def _parse_requirement(text: str, position: int) -> tuple[Requirement, int]:
    """Return the requirement at a position, and the position after it."""
    rest = len(text) - len(text[position:].lstrip())
    negated = text.startswith("!", rest)
    key = _KEY.match(text, rest + negated)
    if key is None:
        raise _wrong(text, rest)
    name, end = key[1], key.end()
    if negated:
        return Requirement(name, "absent"), end
    if (among := _SET.match(text, end)) is not None:
        values = tuple(word.strip() for word in among[2].split(","))
        operator: Operator = "in" if among[1] == "in" else "notin"
        return _checked(Requirement(name, operator, values), text, end), among.end()
    if (compared := _COMPARISON.match(text, end)) is not None:
        operator = _OPERATORS[compared[1]]
        return _checked(Requirement(name, operator, (compared[2],)), text, end), compared.end()
    return Requirement(name, "exists"), end


_OPERATORS: Final[dict[str, Operator]] = {
    "=": "in", "==": "in", "!=": "notin", ">": ">", "<": "<",
}  # fmt: skip


def _checked(requirement: Requirement, text: str, position: int) -> Requirement:
    shape = _NUMBER if requirement.operator in {">", "<"} else _WORD
    if not all(shape.fullmatch(value) for value in requirement.values):
        raise _wrong(text, position)
    return requirement


def _wrong(text: str, position: int) -> ValueError:
    rest = text[position:].strip()
    where = f"at {rest[:40]!r}" if rest else "at its end"
    return ValueError(f"{text[:80]!r} is not a label selector, {where}")
