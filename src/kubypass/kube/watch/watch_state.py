# SPDX-License-Identifier: Apache-2.0
"""The state of the watches of a source: of each resource, and of the connection to the API as a whole."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import FORBIDDEN

from kubypass.kube.store import ObjectKey

_UNTRIED = "not connected yet"
_NOT_ALLOWED = "permissions are missing"


@dataclass(slots=True)
class WatchState:
    """The state of one resource's watch."""

    reason: str = _UNTRIED
    """Why the watch does not work; empty: it works."""
    code: int = 0
    """The HTTP status of a refusal; 0 without one."""
    complete: bool = False
    """Whether the resource was listed completely once."""
    events: int = 0
    """How many objects came, in lists and as changes."""
    listed: set[ObjectKey] | None = None
    """The keys that the present list has so far; None outside a list."""


@dataclass(slots=True)
class ConnectionState:
    """The state of all watches together, as status and log show it."""

    reason: str = _UNTRIED
    """Why a watch does not work; empty: all work."""
    since: float = field(default_factory=time.time)
    """Seconds since 1970."""
    reconnects: int = 0
    """How often the API was away and came back."""

    @property
    def untried(self) -> bool:
        """Whether no server was asked yet."""
        return self.reason == _UNTRIED

    def update(self, states: Collection[WatchState], denied: str) -> None:
        """Derives the state from those of the watches. `denied` names the missing permissions, if they are known."""
        broken = [state for state in states if state.reason]
        tried = [state for state in broken if state.reason != _UNTRIED]
        reason = (tried or broken)[0].reason if broken else ""
        if any(state.code == FORBIDDEN for state in tried):
            reason = denied or _NOT_ALLOWED
        if bool(reason) != bool(self.reason):
            self.since = time.time()
            self.reconnects += not reason and not self.untried
        self.reason = reason


def broken_watches(
    states: Mapping[str, WatchState], *, permissions_known: bool
) -> Iterator[tuple[str, list[str]]]:
    """Each reason with the resources that it concerns. Refusals are left out if the missing permissions are known."""
    by_reason: dict[str, list[str]] = {}
    for name, state in states.items():
        if state.reason and not (state.code == FORBIDDEN and permissions_known):
            by_reason.setdefault(state.reason, []).append(name)
    yield from by_reason.items()
