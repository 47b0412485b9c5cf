# SPDX-License-Identifier: Apache-2.0
"""Decides whether the proxy is healthy. As in kube-proxy, it is unless a change waits too long to be applied."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TIMEOUT_S = 60.0
"""Twice kube-proxy's default syncPeriod."""


class Health:
    """The loop reports to it, and threads that answer probes ask it. Both families are applied at once."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._waiting_since: float | None = None
        self.node_eligible = True
        """Whether the Node stays: it is not being deleted, nor tainted `ToBeDeletedByClusterAutoscaler`."""
        self.queued: float | None = None
        """When the last change came in; seconds since 1970."""
        self.updated: float | None = None
        """When everything that had come in was last applied; seconds since 1970."""

    @contextmanager
    def update(self) -> Iterator[None]:
        """A block that applies a change which has come in. The change counts as applied unless the block raises."""
        if self._waiting_since is None:
            self._waiting_since = self._monotonic()
        self.queued = self._wall()
        yield
        self.updated = self._wall()
        self._waiting_since = None

    def is_healthy(self) -> bool:
        """Whether no change waits too long. The node is not considered: see `node_eligible`."""
        since = self._waiting_since
        return since is None or self._monotonic() - since < TIMEOUT_S

    def now(self) -> float:
        """The time in seconds since 1970."""
        return self._wall()
