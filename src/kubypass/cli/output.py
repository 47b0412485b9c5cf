# SPDX-License-Identifier: Apache-2.0
"""Standard output, of which not every failure is a traceback."""

from __future__ import annotations

import os
import sys

from kubypass.errors import KubypassError


def put(text: bytes) -> None:
    """Writes it at once. KubypassError: it could not be; BrokenPipeError: nobody reads any more."""
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop()
        raise KubypassError(f"the output could not be written: {error.strerror}") from None


def drop() -> None:
    """What is not written yet goes nowhere; Python would try once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
