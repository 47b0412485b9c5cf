# SPDX-License-Identifier: Apache-2.0
"""Is the proxy healthy? As kube-proxy has it: unless something waits too long to be applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMEOUT_S = 60.0
"""Twice kube-proxy's default syncPeriod."""


class Health:
    """Told by the agent's loop, asked by the threads that answer probes. Both families are applied at once."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._waiting_since: float | None = None
        self.node_eligible = True
        """Whether the Node is to stay: not deleted, not tainted `ToBeDeletedByClusterAutoscaler`."""
        self.queued: float | None = None
        """When something to look at came in last; seconds since 1970."""
        self.updated: float | None = None
        """When everything that came in was applied last."""

    @contextmanager
    def update(self) -> Iterator[None]:
        """Something came in; at the end of the block it is applied, unless that failed."""
        if self._waiting_since is None:
            self._waiting_since = self._monotonic()
        self.queued = self._wall()
        yield
        self.updated = self._wall()
        self._waiting_since = None

    def is_healthy(self) -> bool:
        """The node is not considered: see `node_eligible`."""
        since = self._waiting_since
        return since is None or self._monotonic() - since < TIMEOUT_S

    def now(self) -> float:
        """Seconds since 1970."""
        return self._wall()
