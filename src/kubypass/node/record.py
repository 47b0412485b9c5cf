# SPDX-License-Identifier: Apache-2.0
"""The record of what was changed on this node, so that it can be undone.

The order is always: recorded first, then changed. Whoever is killed in between leaves a record of a change that did
not happen, and undoing that one does nothing. Changes are undone newest first. Each is forgotten once it is undone.

Some of what the agent leaves on a node can be told to be ours without a record, and is not in it: pins below
<bpffs>/kubypass, and routes of our rtm_protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from kubypass.kernel.files import write_file

_FILE = "changes.jsonl"
_EARLIER_FILE = "state.json"


class Kind(StrEnum):
    """What can be changed; the text stands in the record."""

    MOUNT = "mount"
    """A bpf filesystem was mounted at `subject`."""
    SYSCTL = "sysctl"
    """The sysctl `subject` was set; its value was `before`."""
    HOST_ROUTING = "host-routing"
    """The sysctl `subject` was set for legacy host routing; its value was `before`."""
    NO_CONNTRACK = "no-conntrack"
    """Connection tracking was told by `subject` (nftables or iptables) to skip packets of pods."""
    RESERVED_PORTS = "reserved-ports"
    """The ports `subject` were added to those that are reserved, which were `before`."""
    FILTERS = "filters"
    """The device `subject` got clsact filters."""
    CNI_CONFIGURATION = "cni-configuration"
    """The directory `subject` got our network configuration, and those of others were set aside there."""
    CNI_PLUGIN = "cni-plugin"
    """The directory `subject` got our CNI plugin."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the node."""

    kind: Kind
    subject: str
    before: str = ""


Undo = Callable[[Change], list[str]]
"""Undoes a change; returns a line for each thing that was put back."""


class Record:
    """The changes in one run directory, one line of JSON each. Doing anything twice is fine."""

    def __init__(self, run: Path) -> None:
        """Only the process that has the run directory for itself may make one."""
        self._path = run / _FILE
        self._changes = _read(self._path)
        if not self._changes and (earlier := _earlier(run / _EARLIER_FILE)):
            self._write(earlier)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is recorded, oldest first."""
        return tuple(self._changes)

    def add(self, change: Change) -> None:
        """Records a change that is about to be made; it is on disk when this returns.

        A change of the same subject that is recorded already stays as it is: its `before` is the original.
        """
        if any((one.kind, one.subject) == (change.kind, change.subject) for one in self._changes):
            return
        self._write([*self._changes, change])

    def undo(self, how: Mapping[Kind, Undo]) -> list[str]:
        """Undoes the changes of these kinds, newest first; returns what was put back.

        Where one fails, its error is raised, and it stays recorded with those that are older.
        """
        done = []
        for change in reversed(self.changes):
            if change.kind in how:
                done += how[change.kind](change)
                self._write([one for one in self._changes if one != change])
        return done

    def _write(self, changes: list[Change]) -> None:
        lines = [json.dumps(asdict(change)) + "\n" for change in changes]
        if lines:
            write_file(self._path, "".join(lines).encode(), durable=True)
        else:
            self._path.unlink(missing_ok=True)
        self._changes = changes


def _read(path: Path) -> list[Change]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    fields = [json.loads(line) for line in lines]
    return [Change(Kind(one["kind"]), one["subject"], one["before"]) for one in fields]


def _earlier(path: Path) -> list[Change]:
    """The record as agents wrote it before it had a file of its own."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    devices = [] if found.get("tcx", True) else found.get("devices", [])
    conf, programs = found.get("cni_conf_dir"), found.get("cni_bin_dir")
    return [
        *([Change(Kind.MOUNT, "/sys/fs/bpf")] if found.get("mounted_bpffs") else []),
        *(Change(Kind.SYSCTL, name, value) for name, value in found.get("sysctls", {}).items()),
        *(Change(Kind.FILTERS, name) for name in devices),
        *([Change(Kind.CNI_PLUGIN, programs)] if programs else []),
        *([Change(Kind.CNI_CONFIGURATION, conf)] if conf else []),
    ]
