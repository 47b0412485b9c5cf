# SPDX-License-Identifier: Apache-2.0
"""Files that others read while they are written: whole by rename, so that nobody sees a part of one."""

from __future__ import annotations

import os
from pathlib import Path

UNFINISHED = ".new"
"""How the name of a file ends that is still being written; it starts with a dot."""


def write_file(path: Path, content: bytes, *, mode: int = 0o644, durable: bool) -> None:
    """Replaces a file in one step; its directory must exist.

    A crash of this process leaves the old content or the new one. Only a `durable` file is safe from a crash of the
    machine as well: its content and its name are on disk when this returns (fsync(2) of the file and its directory).
    OSError is what the kernel said.
    """
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    with temporary.open("wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
