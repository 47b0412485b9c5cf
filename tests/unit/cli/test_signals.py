# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends a command, wherever in Python it finds it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_BEGIN = """
import signal, weakref
from kubypass.cli import signals
class Thing: pass
signals.repeat_lost_interrupts()
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
_GO_ON = """
try:
    signal.sigtimedwait([], 60)
    print("went on")
except KeyboardInterrupt:
    print("ended")
"""
_CALLBACK = """
thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
del thing
"""
_DESTRUCTOR = """
Thing.__del__ = lambda _: signal.raise_signal(signal.SIGINT)
Thing()
"""
_OTHER = """
Thing.__del__ = lambda _: 1 / 0
Thing()
signal.raise_signal(signal.SIGINT)
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("lost", [_CALLBACK, _DESTRUCTOR], ids=["callback", "destructor"])
def test_an_interrupt_where_python_ignores_exceptions(lost: str) -> None:
    done = _run(_BEGIN + lost + _GO_ON)
    assert (done.stdout, done.stderr) == ("ended\n", "")


def test_other_exceptions_there_are_printed() -> None:
    done = _run(_BEGIN + _OTHER)
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == -signal.SIGINT
