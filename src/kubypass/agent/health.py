# SPDX-License-Identifier: Apache-2.0
"""Decides whether the proxy is healthy.

As in kube-proxy, it is unless a change waits too long to be applied. Moreover it is not while something keeps pods from
being served, nor while the loop hangs: the loop beats, and the threads that answer probes look at its last beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kubypass.model.problem import Problem

TIMEOUT_S = 60.0
"""Twice kube-proxy's default syncPeriod."""
HUNG_S = 20.0
"""The loop beats each second. A check of everything, its longest step, takes 2 s with 10,000 services."""


class Health:
    """The loop reports to it, and threads that answer probes ask it. Both families are applied at once."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._waiting: dict[str, float] = {}
        self._beat: float | None = None
        self.doing = ""
        """What the loop is at, for whoever asks why it hangs."""
        self.outages: tuple[str, ...] = ()
        """What keeps pods from being served now, each in words."""
        self.node_eligible = True
        """Whether the Node stays: it is not being deleted, nor tainted `ToBeDeletedByClusterAutoscaler`."""
        self.queued: float | None = None
        """When the last change came in; seconds since 1970."""
        self.updated: float | None = None
        """When everything that had come in was last applied; seconds since 1970."""

    @contextmanager
    def update(self, of: str = "") -> Iterator[None]:
        """A block that applies a change which has come in. The change counts as applied unless the block raises.

        Changes `of` different parts wait for themselves: success of one does not make up for another's failure.
        """
        self._waiting.setdefault(of, self._monotonic())
        self.queued = self._wall()
        yield
        self._waiting.pop(of, None)
        if not self._waiting:
            self.updated = self._wall()

    def beat(self) -> None:
        """Notes that the loop is at its beginning again; the first call is when it starts."""
        self._beat = self._monotonic()
        self.doing = ""

    @property
    def hung_s(self) -> float:
        """For how long the loop has not beaten, if that is too long; else 0."""
        since = self._monotonic() - self._beat if self._beat is not None else 0.0
        return since if since >= HUNG_S else 0.0

    def reasons(self) -> list[str]:
        """Why the proxy is not healthy, in words; empty where it is."""
        now, found = self._monotonic(), list(self.outages)
        if self.hung_s:
            found.append(f"the agent's loop has hung for {self.hung_s:.0f} s {self.doing}".rstrip())
        if any(now - since >= TIMEOUT_S for since in list(self._waiting.values())):
            found.append(f"a change has not been applied for {TIMEOUT_S:.0f} s")
        return found

    def hung(self) -> list[Problem]:
        """A problem while the loop hangs."""
        hung_s = self.hung_s
        message = (
            f"its loop has hung for {hung_s:.0f} s {self.doing}: services and pods stay as they were; "
            "if it does not end, restart the agent and report it"
        )
        return [Problem("Agent", message)] if hung_s else []

    def is_healthy(self) -> bool:
        """Whether services and pods are served as the cluster says. The node is not considered: see `node_eligible`."""
        return not self.reasons()

    def is_alive(self) -> bool:
        """Whether a restart would help less than waiting: the loop runs, and changes are applied."""
        now = self._monotonic()
        waited = max((now - since for since in list(self._waiting.values())), default=0.0)
        beaten = now - self._beat if self._beat is not None else 0.0
        return waited < TIMEOUT_S and beaten < TIMEOUT_S

    def now(self) -> float:
        """The time in seconds since 1970."""
        return self._wall()
