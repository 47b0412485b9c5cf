# SPDX-License-Identifier: Apache-2.0
"""Writes to standard output and turns failures into errors of one line."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from kubypass.errors import KubypassError


def prepare_streams() -> None:
    """Makes the three streams usable: one that is closed leads nowhere, and text that a locale lacks is escaped.

    Otherwise the next file to be opened would take the place of the closed stream, and get what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say_error(message: str) -> None:
    """Writes one line to standard error, if anybody takes it."""
    with suppress(OSError):
        print(f"kubypass: {message}", file=sys.stderr, flush=True)


def write_output(text: bytes) -> None:
    """Writes and flushes. Raises KubypassError where that fails, BrokenPipeError where nobody reads any more."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise KubypassError(f"the output could not be written: {error.strerror}") from None


def flush_output() -> None:
    """Flushes what was printed; raises what `write_output` does."""
    write_output(b"")


def discard_output() -> None:
    """Sends what is not written yet to /dev/null: Python would try to write it once more when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
