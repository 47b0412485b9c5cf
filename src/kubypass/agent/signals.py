# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT, as something to wait for beside other things."""

from __future__ import annotations

import select
import signal
import socket


class Signals:
    """From its making on, these signals end nothing by themselves (also as a container's first process)."""

    def __init__(self) -> None:
        self.stopped = False
        """Whether one has come."""
        self._wake, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._wakeup.fileno())

    @property
    def fd(self) -> int:
        """Readable when one has come."""
        return self._wake.fileno()

    def wait(self, fd: int, seconds: float) -> bool:
        """Until `fd` is readable (True), a signal comes, or time is over."""
        ready, _, _ = select.select([fd, self.fd], [], [], seconds)
        return fd in ready

    def _stop(self, *_: object) -> None:
        self.stopped = True
