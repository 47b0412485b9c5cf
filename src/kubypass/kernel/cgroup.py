# SPDX-License-Identifier: Apache-2.0
"""cgroup v2: where it is mounted, and its directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel.processes import left_behind


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


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A new cgroup at the root of the hierarchy, with this process in it for the block; named `prefix`-PID.

    One that a killed process left is removed by the next that asks.
    """
    root = mount_point()
    for left in left_behind(root, prefix):
        with suppress(OSError):
            left.rmdir()
    found = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    home = root / (found[1] if found else "/").lstrip("/")
    made = root / f"{prefix}-{os.getpid()}"
    try:
        made.mkdir()
        (made / "cgroup.procs").write_text("0")
    except OSError as error:
        raise KernelError("make cgroup", str(made), error.errno or 0, "needs root") from None
    try:
        yield made
    finally:
        with suppress(OSError):
            (home / "cgroup.procs").write_text("0")
            made.rmdir()
