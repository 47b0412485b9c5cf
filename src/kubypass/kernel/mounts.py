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
