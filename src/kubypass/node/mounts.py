# SPDX-License-Identifier: Apache-2.0
"""Mounts a bpf filesystem where the node has none, and unmounts it."""

from __future__ import annotations

import errno
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel import mounts
from kubypass.node.record import Change, Kind, Record


def provide_bpffs(record: Record, path: Path) -> None:
    """Mounts a bpf filesystem at `path`, which is a directory, unless there is one."""
    if not mounts.is_bpffs(path):
        if not mounts.reaches_node(path):
            hint = "end the pod: its init container mounts one for the node"
            raise KernelError("mount bpffs for the node at", str(path), errno.EPERM, hint)
        record.add(Change(Kind.MOUNT, str(path)))
        mounts.mount_bpffs(path)


def unmount_bpffs(change: Change) -> list[str]:
    """Unmounts the bpf filesystem that we mounted."""
    path = Path(change.subject)
    if not mounts.is_bpffs(path):
        return []
    mounts.unmount(path)
    return [f"unmounted {path}"]
