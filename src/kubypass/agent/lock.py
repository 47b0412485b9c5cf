# SPDX-License-Identifier: Apache-2.0
"""The lock of a run directory: one agent at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kubypass.errors import ConfigError

_LOCK = "agent.lock"


def lock(run: Path) -> int:
    """Makes us the only agent of this run directory; the descriptor holds the lock."""
    fd = os.open(run / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(fd, 32).decode().strip()
        os.close(fd)
        raise ConfigError(
            f"--run {run}: an agent runs already (pid {pid or 'unknown'})",
            hint="stop it first, or give another --run",
        ) from None
    os.truncate(fd, 0)
    os.write(fd, str(os.getpid()).encode())
    return fd


def running_agent(run: Path) -> int | None:
    """The pid of the agent that holds the lock, None where none runs."""
    try:
        fd = os.open(run / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(fd, 32) or b"0")
    finally:
        os.close(fd)
    return None
