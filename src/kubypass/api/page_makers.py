# SPDX-License-Identifier: Apache-2.0
"""A few threads that make pages which take long, such as the metrics of 10,000 services.

Requests for the same page that wait at the same time share one answer, so their number costs neither time nor memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from kubypass.api.connection import Connection

Make = Callable[[Connection], bytes]
"""Makes the answer; any thread calls it, and it raises nothing."""
Made = Callable[[Sequence[Connection], bytes], None]
"""Takes the answer for connections that asked for the same; any thread calls it."""


class PageMakers:
    """Threads that start when they are needed. One that hangs keeps its place, and nobody else's answer."""

    def __init__(self, count: int, make: Make, made: Made) -> None:
        self._count = count
        self._make = make
        self._made = made
        self._waiting: deque[Connection] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def submit(self, connection: Connection) -> None:
        """Has the page of this connection's request made."""
        with self._changed:
            self._waiting.append(connection)
            if self._idle < len(self._waiting) and len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name="page", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def _work(self) -> None:
        while alike := self._take():
            self._made(alike, self._make(alike[0]))

    def _take(self) -> list[Connection]:
        """The connections that have waited longest for one page; none where the server stops."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            self._idle -= 1
            if self._stopped:
                return []
            first = self._waiting[0]
            alike = [one for one in self._waiting if _asks_alike(one, first)]
            self._waiting = deque(one for one in self._waiting if not _asks_alike(one, first))
            return alike

    def stop(self) -> None:
        """Ends the threads that wait; one that makes a page ends after it."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _asks_alike(one: Connection, other: Connection) -> bool:
    return one.routes is other.routes and one.request == other.request
