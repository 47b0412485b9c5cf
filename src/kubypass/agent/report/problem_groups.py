# SPDX-License-Identifier: Apache-2.0
"""Puts problems of one kind together: those whose words are alike but for names, addresses and numbers. Pure.

A faulty template of a chart makes the same problem of hundreds of services. One line tells of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter

from kubypass.model.problem import Problem

SHOWN = 3
"""How many objects of a kind are named."""
_KINDS = {"ConfigMap", "EndpointSlice", "File", "Node", "Pod", "Service"}
"""The first words of subjects that name an object."""
_VARIES = re.compile(r"""\S*[0-9/'"]\S*""")
"""A word with a digit, a slash or a quotation mark: it names one object, or counts."""
_SEVERAL = re.compile(r"…[…,\s]*…")


Shape = tuple[str, str]
"""What problems of one kind have in common: what they are about, and their words."""


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """Problems that are alike, in order of their subjects."""

    kind: str
    """What they are about, such as `Service`."""
    problems: tuple[Problem, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.problems)

    @property
    def subjects(self) -> str:
        """The first of their objects, and an ellipsis if there are more."""
        shown = [problem.subject for problem in self.problems[:SHOWN]]
        return ", ".join(shown) + (", …" if self.count > SHOWN else "")

    @property
    def message(self) -> str:
        """What the first of them says."""
        return self.problems[0].message

    def row(self) -> dict[str, object]:
        """The group as the API sends it."""
        return {
            "kind": self.kind,
            "count": self.count,
            "subjects": [problem.subject for problem in self.problems[:SHOWN]],
            "message": self.message,
        }


def kind_of(problem: Problem) -> str:
    """What a problem is about: the kind of its object, or the whole subject where that is no object."""
    first = problem.subject.partition(" ")[0]
    return first if first in _KINDS else _masked(problem.subject)


@lru_cache(maxsize=16384)
def shape_of(problem: Problem) -> Shape:
    """What two problems of one kind have in common. It stays the same while a count in the message grows."""
    return kind_of(problem), _masked(problem.message)


def group_problems(problems: Iterable[Problem]) -> dict[Shape, ProblemGroup]:
    """The groups by their shape, in the order in which their first problems come."""
    found: dict[Shape, dict[Problem, None]] = {}
    for problem in problems:
        found.setdefault(shape_of(problem), {})[problem] = None
    return {
        shape: ProblemGroup(shape[0], tuple(sorted(alike, key=attrgetter("subject"))))
        for shape, alike in found.items()
    }


def _masked(text: str) -> str:
    return _SEVERAL.sub("…", _VARIES.sub("…", text))
