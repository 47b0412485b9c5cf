# SPDX-License-Identifier: Apache-2.0
"""Two locks: one agent for a run directory, and one for a node, whatever its `--run` says.

The node's lock is a listening abstract unix socket: such a name belongs to a network namespace, as devices do, and goes
with the process, however that ends. A second name tells who has it. Any process of the namespace may take the name, but
one that is not root's keeps no agent from its work.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from kubypass.agent.log import log
from kubypass.errors import ConfigError

_LOCK = "agent.lock"
_NODE_LOCK = "kubypass-agent"
_LONGEST_NAME = 107
_QUEUE = 128
"""How many other agents may ask who we are between two calls of `forget_askers`."""


def lock(run: Path) -> int:
    """Makes us the only agent of this run directory; the descriptor holds the lock.

    On a filesystem that is full or read-only, the file keeps what it says.
    """
    fd = _open(run)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(fd, 32).decode().strip()
        os.close(fd)
        raise ConfigError(
            f"--run {run}: an agent runs already (pid {pid or 'unknown'})",
            hint="stop it first: one agent serves a node",
        ) from None
    pid = str(os.getpid())
    with suppress(OSError):  # it only tells others who we are
        os.pwrite(fd, pid.encode(), 0)
        os.truncate(fd, len(pid))
    return fd


def _open(run: Path) -> int:
    try:
        return os.open(run / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC):
            with suppress(OSError):
                return os.open(run / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
            return os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        raise ConfigError(f"--run {run}: {error.strerror}", hint="give another directory") from None


def running_agent(run: Path) -> int | None:
    """The pid of the agent that holds the lock, None where none runs."""
    try:
        fd = os.open(run / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(fd, 32) or b"0")
    finally:
        os.close(fd)
    return None


class NodeLock:
    """The lock of this network namespace, for as long as it is open."""

    def __init__(self, run: Path) -> None:
        """Takes the lock; ConfigError names the agent that has it."""
        self._held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._held.setblocking(False)
        try:
            self._held.bind(f"\0{_NODE_LOCK}")
            self._held.listen(_QUEUE)
        except OSError:
            self.close()
            _refuse()
            return
        with suppress(OSError):
            self._told.bind(b"\0" + _told(os.getpid(), run))

    def forget_askers(self) -> None:
        """Makes room in the queue of those that asked who we are; call it now and then."""
        with suppress(OSError):
            while True:
                self._held.accept()[0].close()

    def close(self) -> None:
        """Gives the lock back."""
        self._held.close()
        self._told.close()


def _told(pid: int, run: Path) -> bytes:
    return f"{_NODE_LOCK}/{pid}".encode() + os.fsencode(run.absolute())[: _LONGEST_NAME - 32]


def _refuse() -> None:
    """Raises ConfigError where an agent has the lock; another user's process that has its name is logged."""
    pid, user = _holder()
    if user:
        log("the name of the node's lock is taken", "WARNING", pid=pid, user=user)
        return
    run = _run_of(pid)
    where = f", --run {run}" if run else ""
    raise ConfigError(
        f"an agent runs already in this network namespace (pid {pid or 'unknown'}{where})",
        hint="stop it first: one agent serves a node, whatever its --run",
    )


def _holder() -> tuple[int, int]:
    """The pid and the user of who listens on the lock's name; (0, 0) where the kernel does not say."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asked:
        asked.setblocking(False)
        try:
            asked.connect(f"\0{_NODE_LOCK}")
        except OSError:  # it has gone meanwhile, or too many ask
            return 0, 0
        found = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", found)
    return pid, user


def _run_of(pid: int) -> str:
    """The run directory of the agent with this pid, by the second name that it has."""
    prefix = f"@{_NODE_LOCK}/{pid}/"
    with suppress(OSError):
        for line in Path("/proc/self/net/unix").read_text(errors="replace").splitlines():
            _, found, rest = line.partition(prefix)
            if found:
                return f"/{rest}"
    return ""
