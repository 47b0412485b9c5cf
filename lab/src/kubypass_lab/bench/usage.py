# SPDX-License-Identifier: Apache-2.0
"""CPU and memory of all processes in a cgroup, including ended ones. See cgroup-v2.rst and proc(5)."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from kubypass.kernel.processes import cgroup_processes


def cpu_seconds(cgroup: Path) -> float:
    """The user and system CPU time of all processes that ever ran in a cgroup."""
    return _usage_us(cgroup) / 1e6


def _usage_us(cgroup: Path) -> int:
    found = re.search(r"^usage_usec (\d+)$", (cgroup / "cpu.stat").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def resident_kb(cgroup: Path) -> int:
    """The sum of the resident memory (kB) of a cgroup's processes. Shared pages count once for each process."""
    return sum(_status_kb(pid, "VmRSS") for pid in cgroup_processes(cgroup))


def peak_kb(pid: int) -> int:
    """The peak resident memory (kB) of one process."""
    return _status_kb(pid, "VmHWM")


def _status_kb(pid: int, key: str) -> int:
    with suppress(OSError):  # the process ended
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
