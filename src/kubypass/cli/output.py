# SPDX-License-Identifier: Apache-2.0
"""Writes to standard output and turns failures into errors of one line."""

from __future__ import annotations

import os
import sys

from kubypass.errors import KubypassError


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
