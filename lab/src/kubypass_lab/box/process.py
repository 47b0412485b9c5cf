# SPDX-License-Identifier: Apache-2.0
"""Processes of a box, started in a cgroup and a network namespace.

They outlive the command that started them, so they are not its children: a shell starts them in the background and
ends. A process is identified by its pid and start time, a pair that no other process can have.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubypass.errors import KubypassError
from kubypass_lab.box.patience import DEADLINE_S

POLL_S = 0.01

# The cgroup comes first: a socket belongs to the cgroup in which it was created.
_START = """
cgroup=$1 namespace=$2 log=$3; shift 3
( echo 0 > "$cgroup/cgroup.procs" && exec nsenter --net="/run/netns/$namespace" -- "$@" ) \\
    >>"$log" 2>&1 </dev/null &
echo $!
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process id with the start time in clock ticks after boot."""

    pid: int
    start: int

    def describe(self) -> dict[str, object]:
        """The process as JSON values."""
        return {"pid": self.pid, "start": self.start}


def parse_process(value: object) -> Process | None:
    """Inverse of `Process.describe`; None if the value is anything else."""
    if (
        isinstance(value, dict)
        and isinstance(value.get("pid"), int)
        and isinstance(value.get("start"), int)
    ):
        return Process(value["pid"], value["start"])
    return None


def run(command: Sequence[str], *, stdin: str | None = None) -> str:
    """Run a command to its end and return its output; KubypassError if it fails."""
    try:
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise KubypassError(f"{command[0]} is not installed") from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines() or [
            f"exit {result.returncode}"
        ]
        raise KubypassError(f"{' '.join(command)}: {lines[0]}")
    return result.stdout


def start_time(pid: int) -> int | None:
    """The start time of a living process in clock ticks after boot; None if it is gone or a zombie.

    A zombie whose other threads have not ended still owns its sockets and ports (num_threads in proc(5)).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ended = fields[0] in "ZX" and int(fields[17]) <= 1
    return None if ended else int(fields[19])


def spawn(
    command: Sequence[str], *, cgroup: Path, namespace: str, log: Path, env: dict[str, str]
) -> Process:
    """Start a process in a new session, and append its output to `log`."""
    result = subprocess.run(
        ["sh", "-c", _START, "sh", str(cgroup), namespace, str(log), *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
        env={**os.environ, **env},
    )
    pid = int(result.stdout)
    start = start_time(pid)
    if start is None:
        raise KubypassError(f"{command[0]} ended at once: {last_line(log)}", f"see {log}")
    return Process(pid, start)


def last_line(log: Path) -> str:
    """The last line of a log, or a note that the log is empty."""
    return (last_lines(log, 1) or ["it said nothing"])[0]


def last_lines(log: Path, count: int) -> list[str]:
    """The last `count` lines of a log; none if there is no log."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-count:]


def is_alive(process: Process | None) -> bool:
    """Whether this process still runs, and not a later one with the same pid."""
    return process is not None and start_time(process.pid) == process.start


def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> bool:
    """Wait for a condition. Returns whether it became true within `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def stop(process: Process | None, how: signal.Signals, deadline_s: float) -> None:
    """End a process with signal `how`, and with SIGKILL if it still runs after `deadline_s` seconds."""
    for each in (how, signal.SIGKILL):
        if process is None or not is_alive(process):
            return
        try:
            os.kill(process.pid, each)
        except ProcessLookupError:
            return
        wait_until(lambda: not is_alive(process), deadline_s)


def kill_cgroup(cgroup: Path, deadline_s: float = DEADLINE_S) -> None:
    """SIGKILL all processes in `cgroup` and below it, then remove these cgroups."""
    if not cgroup.is_dir():
        return

    def empty() -> bool:
        living = cgroup_processes(cgroup)
        for pid in living:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not living

    if not wait_until(empty, deadline_s):
        raise KubypassError(f"processes in {cgroup} do not end: {cgroup_processes(cgroup)}")
    for directory in sorted(cgroup.rglob("*"), reverse=True):
        if directory.is_dir():
            _remove_cgroup(directory)
    _remove_cgroup(cgroup)


def cgroup_processes(cgroup: Path) -> list[int]:
    """The ids of the processes in `cgroup` and below it."""
    pids: list[int] = []
    for procs in (cgroup / "cgroup.procs", *cgroup.rglob("cgroup.procs")):
        try:
            pids += [int(line) for line in procs.read_text().split()]
        except (FileNotFoundError, OSError):
            continue
    return sorted({pid for pid in pids if pid > 0})


def _remove_cgroup(directory: Path) -> None:
    """Remove an empty cgroup. It is tried again, because the kernel may still count a process that just ended."""

    def gone() -> bool:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_until(gone)
