# SPDX-License-Identifier: Apache-2.0
"""Writes problems as Events on the objects that have them, where `kubectl describe` shows them.

A problem of a Service or Pod is an Event on it, and any other one is on this node. A problem that stays is written
again after an hour, when the API server forgets Events. All nodes see the same problem of a Service: the Event's name
is made of what it says and of the hour, so that the server takes the first one and refuses the others'.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest

from kubypass.agent.report.problem_groups import ProblemGroup, Shape
from kubypass.kube.client.writer import Subject
from kubypass.kube.snapshot import Snapshot
from kubypass.model.problem import Problem

_AGAIN_S = 3600
"""How long the API server keeps an Event, by default."""
_MINUTE_S = 60.0
_A_MINUTE = 5
"""Half of what the writer takes: other Events have room beside them."""
_OBJECT = re.compile(r"(Service|Pod) ([a-z0-9.-]+)/([a-z0-9.-]+)")
_NODE = re.compile(r"Node ([a-z0-9.-]+)")

Announce = Callable[[Subject, str, str, str], bool]
"""Writes an Event on an object: its reason, message and name. False: not now."""
_Key = tuple[str, Shape]


class ProblemEvents:
    """Remembers what was written. One thread calls it."""

    def __init__(
        self,
        snapshot: Snapshot,
        node: str,
        announce: Announce,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._snapshot = snapshot
        self._node = node
        self._announce = announce
        self._clock = clock
        self._written: dict[_Key, float] = {}
        self._recent: deque[float] = deque(maxlen=_A_MINUTE)

    def look(self, groups: Mapping[Shape, ProblemGroup]) -> None:
        """Writes what was not written within the hour, as far as the limit allows."""
        now = self._clock()
        self._written = {key: at for key, at in self._written.items() if now - at < _AGAIN_S}
        for shape, problem in _in_turn(groups):
            if len(self._recent) == _A_MINUTE and now - self._recent[0] < _MINUTE_S:
                return
            key = (problem.subject, shape)
            if key in self._written:
                continue
            subject = self._subject(problem)
            if subject is None:
                continue
            if not self._announce(subject, *_event(subject, problem, now)):
                return
            self._written[key] = now
            self._recent.append(now)

    def _subject(self, problem: Problem) -> Subject | None:
        """The object that has the problem; None where the cluster does not know it."""
        found = _OBJECT.match(problem.subject)
        if found:
            kind, *key = found.groups()
            known = self._snapshot.services if kind == "Service" else self._snapshot.pod_metadata
            one = known.get((key[0], key[1]))
            if one is not None:
                return Subject(kind, key[0], key[1], one.uid)
        named = _NODE.match(problem.subject)
        name = named[1] if named and named[1] in self._snapshot.nodes else self._node
        if name not in self._snapshot.nodes:
            return None
        return Subject("Node", "", name, name)  # as the kubelet does: kubectl looks for this uid


def _in_turn(groups: Mapping[Shape, ProblemGroup]) -> Iterator[tuple[Shape, Problem]]:
    """One of each kind, then the second of each: many of one kind keep no other one waiting."""
    for some in zip_longest(*(group.problems for group in groups.values())):
        yield from ((shape, one) for shape, one in zip(groups, some, strict=True) if one)


def _event(subject: Subject, problem: Problem, now: float) -> tuple[str, str, str]:
    """Reason, message and name of an Event."""
    message = problem.message
    if not problem.subject.startswith(f"{subject.kind} "):
        message = str(problem)  # it is about something else on this node
    said = "\n".join((subject.uid, problem.subject, message, str(int(now // _AGAIN_S))))
    name = f"{subject.name[:200]}.kubypass-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    return f"{subject.kind}Problem", message, name
