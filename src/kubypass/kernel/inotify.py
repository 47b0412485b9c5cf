# SPDX-License-Identifier: Apache-2.0
"""inotify(7): tells which files of some directories were written, renamed into place or removed."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from kubypass.errors import KernelError

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IS_DIRECTORY = 0x4000, 0x40000000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_HEADER = struct.Struct("=iIII")


class Watch:
    """Watches directories. `fd` becomes readable when a file changes."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._library.inotify_init1(_FLAGS)
        if self.fd < 0:
            hint = "raise fs.inotify.max_user_instances"
            raise KernelError("start", "inotify", ctypes.get_errno(), hint)
        self._directories: dict[int, Path] = {}

    def add(self, directory: Path) -> None:
        """Watches one directory, without the directories below it."""
        number = self._library.inotify_add_watch(self.fd, os.fsencode(directory), _MASK)
        if number < 0:
            hint = "raise fs.inotify.max_user_watches"
            raise KernelError("watch", str(directory), ctypes.get_errno(), hint)
        self._directories[number] = directory

    def read(self) -> set[Path] | None:
        """The paths that changed since the last call; None where events were lost and any path may have changed."""
        changed: set[Path] = set()
        lost = False
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return None if lost else changed
            at = 0
            while at < len(data):
                number, mask, _, length = _HEADER.unpack_from(data, at)
                name = data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0")
                at += _HEADER.size + length
                lost = lost or bool(mask & _OVERFLOW)
                if number in self._directories:
                    changed.add(self._directories[number] / os.fsdecode(name))

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.fd)
