# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP end a command, but not while it makes things or removes them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_S = 0.01  # after this, Python is most likely out of the callback
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Blocks these signals until the block ends, or until a block of `signals_unblocked` begins."""
    for number in _ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_unblocked() -> Iterator[None]:
    """Ends the block with a signal that is pending or arrives now."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def repeat_lost_interrupts() -> None:
    """Lets Ctrl-C end the command wherever it finds it.

    In a destructor or the callback of a weak reference, Python prints KeyboardInterrupt and goes on: it comes again.
    """
    sys.unraisablehook = _repeat_interrupt


def _repeat_interrupt(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    import threading

    again = threading.Timer(_AGAIN_S, os.kill, [os.getpid(), signal.SIGINT])
    again.daemon = True
    again.start()


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)
