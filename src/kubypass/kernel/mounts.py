# SPDX-License-Identifier: Apache-2.0
"""Finds, mounts and unmounts bpf filesystems."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from kubypass.errors import KernelError

_BPF_FS_MAGIC = 0xCAFE4A11


class _Statfs(ctypes.Structure):
    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_char * 248))


def is_bpffs(path: Path) -> bool:
    """Whether `path` is on a bpf filesystem (statfs(2))."""
    buffer = _Statfs()
    library = ctypes.CDLL(None, use_errno=True)
    if library.statfs(os.fsencode(path), ctypes.byref(buffer)):
        return False
    return bool(buffer.f_type == _BPF_FS_MAGIC)


def reaches_node(path: Path) -> bool:
    """Whether a filesystem that we mount at `path` is seen by others: the mount there is shared, or nobody else has it.

    A container has its mounts as slaves of the node's, unless it asks for more (mount_namespaces(7)).
    """
    found, depth = [], -1
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        where = Path(fields[4].encode().decode("unicode_escape", "replace"))
        if path.is_relative_to(where) and len(where.parts) >= depth:
            depth, found = len(where.parts), fields[6 : fields.index("-")]
    return not any(tag.startswith("master:") for tag in found) or any(
        tag.startswith("shared:") for tag in found
    )


def mount_bpffs(path: Path) -> None:
    """Mounts a bpf filesystem at a directory, which must exist."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"bpf", os.fsencode(path), b"bpf", 0, None):
        raise KernelError("mount bpffs at", str(path), ctypes.get_errno(), "needs root")


def unmount(path: Path) -> None:
    """Unmounts the filesystem at `path`."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.umount2(os.fsencode(path), 0):
        raise KernelError("unmount", str(path), ctypes.get_errno())
