# SPDX-License-Identifier: Apache-2.0
"""Where an agent works: it has its run directory for itself, and knows what an earlier one has changed there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.agent.host_checks import check_host
from kubypass.agent.lock import lock
from kubypass.agent.options import Options
from kubypass.node.record import State, load_state


@dataclass(frozen=True, slots=True)
class Place:
    """Of this node."""

    cgroup: Path
    mounted: bool
    """Whether the bpf filesystem is our mount."""
    state: State
    lock: int
    """A descriptor; its end is that of the lock."""


def take_place(options: Options) -> Place:
    """Makes us the agent of this node; ConfigError says what is missing, or who is there already."""
    cgroup, mounted = check_host(options)
    options.run.mkdir(parents=True, exist_ok=True)
    (options.run / "pods").mkdir(exist_ok=True)
    held = lock(options.run)
    return Place(cgroup, mounted, load_state(options.run), held)
