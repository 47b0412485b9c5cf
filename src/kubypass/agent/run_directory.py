# SPDX-License-Identifier: Apache-2.0
"""The run directory: one agent has it for itself, and finds the record of an earlier agent in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.agent.host_checks import check_host
from kubypass.agent.lock import NodeLock, lock
from kubypass.agent.options import Options
from kubypass.errors import ConfigError
from kubypass.node.attached_programs import AttachedPrograms, read_attached
from kubypass.node.mounts import provide_bpffs
from kubypass.node.record import Record


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """What an agent has once the directory is its own."""

    cgroup: Path
    """Where the programs of sockets are attached."""
    record: Record
    """What was changed on this node, by us or by an earlier agent."""
    attached: AttachedPrograms
    """The programs of an earlier agent."""
    lock: int
    """A descriptor that holds the lock until it is closed."""
    node_lock: NodeLock


def claim_run_directory(options: Options) -> RunDirectory:
    """Makes us the agent of this node; ConfigError says what is missing, or who is there already."""
    cgroup = check_host(options)
    try:
        (options.run / "pods").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--run {options.run}: {error.strerror}", hint="give another directory"
        ) from None
    held = lock(options.run)
    node_lock = NodeLock(options.run)
    record = Record(options.run)
    provide_bpffs(record, options.bpffs)
    return RunDirectory(cgroup, record, read_attached(options.run), held, node_lock)
