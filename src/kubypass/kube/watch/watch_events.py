# SPDX-License-Identifier: Apache-2.0
"""Events that a watcher's thread puts into the queue of its source."""

from __future__ import annotations

from dataclasses import dataclass

from kubypass.kube.watch.resources import ObjectUpdate


@dataclass(frozen=True, slots=True)
class ListStarted:
    """A complete list starts: it ends with `ListFinished`."""


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of a list, or changes, in their order."""

    updates: list[ObjectUpdate]


@dataclass(frozen=True, slots=True)
class ListFinished:
    """The list is complete: objects that it does not have are gone."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The watch works."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The list or watch does not work. It is tried again."""

    reason: str
    code: int = 0
    """The HTTP status of a refusal; 0 without an answer."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The watcher's thread has ended by an exception, which is a fault of this program."""

    error: Exception


WatchEvent = ListStarted | Objects | ListFinished | Connected | Interrupted | Failed
