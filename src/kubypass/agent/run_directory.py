# SPDX-License-Identifier: Apache-2.0
"""The run directory: one agent has it for itself, and finds the record of an earlier agent in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.agent.host_checks import check_host
from kubypass.agent.lock import lock
from kubypass.agent.options import Options
from kubypass.node.record import State, load_state


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """What an agent has once the directory is its own."""

    cgroup: Path
    """Where the programs of sockets are attached."""
    mounted: bool
    """Whether we mounted the bpf filesystem."""
    state: State
    lock: int
    """A descriptor that holds the lock until it is closed."""


def claim_run_directory(options: Options) -> RunDirectory:
    """Makes us the agent of this node; ConfigError says what is missing, or who is there already."""
    cgroup, mounted = check_host(options)
    options.run.mkdir(parents=True, exist_ok=True)
    (options.run / "pods").mkdir(exist_ok=True)
    held = lock(options.run)
    return RunDirectory(cgroup, mounted, load_state(options.run), held)
