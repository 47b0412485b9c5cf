# SPDX-License-Identifier: Apache-2.0
"""Facts about processes from /proc: their network namespaces, their sockets, and whether they have ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path


def cgroup_processes(cgroup: Path) -> Iterator[int]:
    """The pids of the processes in a cgroup v2 directory and below."""
    for directory, _, _ in os.walk(cgroup):
        with contextlib.suppress(OSError):  # it is gone, or a threaded one
            yield from map(int, (Path(directory) / "cgroup.procs").read_text().split())


def network_namespaces(paths: Iterable[str]) -> Iterator[int]:
    """Opens the distinct network namespaces at these paths; each descriptor is closed when the next one is yielded."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            found = os.stat(path)
            if (found.st_dev, found.st_ino) in seen:
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # the process ended
            continue
        seen.add((found.st_dev, found.st_ino))
        try:
            yield fd
        finally:
            os.close(fd)


def left_behind(directory: Path, prefix: str) -> Iterator[Path]:
    """The paths `prefix`-PID in a directory whose process has ended."""
    for found in directory.glob(f"{prefix}-*"):
        pid = found.name.removeprefix(f"{prefix}-")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            yield found


def namespace_path(pid: int) -> str:
    """The path of a process's network namespace."""
    return f"/proc/{pid}/ns/net"


def socket_holders(inodes: Collection[int]) -> dict[int, tuple[int, str]]:
    """Finds, by socket inode, the pid and command of a process in this network namespace that holds the socket."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, tuple[int, str]] = {}
    here = os.stat("/proc/thread-self/ns/net").st_ino
    for entry in os.scandir("/proc"):
        if len(found) == len(wanted):
            break
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # the process, or its descriptor, is gone
            if os.stat(f"/proc/{entry.name}/ns/net").st_ino != here:
                continue
            for descriptor in os.scandir(f"/proc/{entry.name}/fd"):
                inode = wanted.get(os.readlink(descriptor.path))
                if inode is not None:
                    command = Path(f"/proc/{entry.name}/comm").read_text().strip()
                    found[inode] = (int(entry.name), command)
    return found
