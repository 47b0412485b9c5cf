# SPDX-License-Identifier: Apache-2.0
"""cgroup v2: where it is mounted, and its directories."""

from __future__ import annotations

from pathlib import Path

from kubypass.errors import KernelError


def mount_point() -> Path:
    """Where cgroup v2 is mounted; the pure mount comes before a hybrid one."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise KernelError("find", "a cgroup v2 mount", 0, "mount -t cgroup2 none /sys/fs/cgroup")


def is_cgroup(path: Path) -> bool:
    """Is `path` a directory of a cgroup v2 hierarchy?"""
    return (path / "cgroup.procs").is_file() and (path / "cgroup.controllers").is_file()
