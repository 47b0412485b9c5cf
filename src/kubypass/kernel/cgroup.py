# SPDX-License-Identifier: Apache-2.0
"""cgroup v2: its mount point and its directories."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel.processes import left_behind


def mount_point() -> Path:
    """The first mount point of cgroup v2; KernelError where it is not mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise KernelError("find", "a cgroup v2 mount", 0, "mount -t cgroup2 none /sys/fs/cgroup")


def is_cgroup(path: Path) -> bool:
    """Whether `path` is a directory of a cgroup v2 hierarchy."""
    return (path / "cgroup.procs").is_file() and (path / "cgroup.controllers").is_file()


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Makes a cgroup `prefix`-PID at the root of the hierarchy; this process is in it for the block.

    A cgroup that a killed process left is removed by the next call.
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
