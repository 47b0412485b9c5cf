# SPDX-License-Identifier: Apache-2.0
"""Reads files that anybody may have put there: only regular ones, up to a size, and without waiting for anything."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 64 << 20
"""20 times what 10,000 services with their slices take as JSON."""


def read_regular_file(path: str | Path) -> tuple[os.stat_result, bytes]:
    """What stat(2) says of the file, and its content.

    OSError where it is no regular file (a pipe would wait for a writer, and /dev/zero never ends), or too large.
    """
    found = os.stat(path)
    _check(found)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        _check(found)
        content = file.read(MOST_BYTES + 1) or b""
        while len(content) <= MOST_BYTES and (more := file.read(MOST_BYTES + 1 - len(content))):
            content += more
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, _too_large())
    return found, content


def _check(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if found.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, _too_large())


def _too_large() -> str:
    return f"more than {MOST_BYTES >> 20} MiB"
