# SPDX-License-Identifier: Apache-2.0
"""Turns SIGTERM and SIGINT into a readable descriptor, for a loop that waits for other things as well."""

from __future__ import annotations

import select
import signal
import socket


class Signals:
    """While it exists, these signals do not end the process, be it a container's first process or not."""

    def __init__(self) -> None:
        self.stopped = False
        """Whether a signal has come."""
        self._wake, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(self._wakeup.fileno())

    @property
    def fd(self) -> int:
        """A descriptor that is readable when a signal has come."""
        return self._wake.fileno()

    def wait(self, fd: int, seconds: float) -> bool:
        """Waits until `fd` is readable (True), a signal comes or the time is over (False)."""
        ready, _, _ = select.select([fd, self.fd], [], [], seconds)
        return fd in ready

    def _stop(self, *_: object) -> None:
        self.stopped = True
