# SPDX-License-Identifier: Apache-2.0
"""Says on standard error what a command is busy with: at once on a terminal, elsewhere only if it takes long."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PATIENCE_S = 2.0


class Progress:
    """What is going on. Any thread may call it."""

    def __init__(self, *, patience_s: float) -> None:
        self._lock = threading.Lock()
        self._waiting = ""
        self._open = patience_s <= 0
        self._timer = threading.Timer(min(patience_s, threading.TIMEOUT_MAX), self._run_out)
        self._timer.daemon = True
        if not self._open:
            self._timer.start()

    def say(self, what: str) -> None:
        """Something new has begun."""
        with self._lock:
            self._waiting = what
            self._show()

    def end(self) -> None:
        """Nothing more is said."""
        self._timer.cancel()
        with self._lock:
            self._open = False

    def _run_out(self) -> None:
        with self._lock:
            self._open = True
            self._show()

    def _show(self) -> None:
        if self._open and self._waiting and sys.stderr:
            with suppress(OSError, ValueError):  # whoever read it is gone: the command goes on
                print(f"kubypass: {self._waiting}", file=sys.stderr, flush=True)
            self._waiting = ""


@contextmanager
def progress(*, patience_s: float = _PATIENCE_S) -> Iterator[Progress]:
    """Progress for the length of a block."""
    terminal = bool(sys.stderr) and sys.stderr.isatty()
    made = Progress(patience_s=0.0 if terminal else patience_s)
    try:
        yield made
    finally:
        made.end()
