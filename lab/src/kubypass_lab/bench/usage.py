# SPDX-License-Identifier: Apache-2.0
"""What a tree of processes in a cgroup of its own uses, the ended ones included. cgroup-v2.rst, proc(5)."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from kubypass.kernel.processes import cgroup_processes


def cpu_seconds(cgroup: Path) -> float:
    """CPU time of all that ever ran in a cgroup, user and system."""
    return _usage_us(cgroup) / 1e6


def _usage_us(cgroup: Path) -> int:
    found = re.search(r"^usage_usec (\d+)$", (cgroup / "cpu.stat").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def resident_kb(cgroup: Path) -> int:
    """Resident memory of its processes together, in kB; what they share counts for each."""
    return sum(_status_kb(pid, "VmRSS") for pid in cgroup_processes(cgroup))


def peak_kb(pid: int) -> int:
    """The most that one process ever had resident, in kB."""
    return _status_kb(pid, "VmHWM")


def _status_kb(pid: int, key: str) -> int:
    with suppress(OSError):  # it ended
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
