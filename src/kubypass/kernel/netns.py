# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: making and entering one, and the cookie by which the kernel tells them apart."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubypass.errors import KernelError

_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71


def enter(target: Path | str | int) -> None:
    """Moves the calling thread into a network namespace, given by path or descriptor (setns(2))."""
    fd = target if isinstance(target, int) else os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(fd, _CLONE_NEWNET):
            raise KernelError(
                "enter network namespace", str(target), ctypes.get_errno(), "needs root"
            )
    finally:
        if not isinstance(target, int):
            os.close(fd)


def create() -> int:
    """Makes a network namespace that lasts as long as the returned descriptor. The calling thread does not enter it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(_CLONE_NEWNET):
            raise KernelError("make", "a network namespace", ctypes.get_errno(), "needs root")
        made = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        enter(home)
    finally:
        os.close(home)
    return made


@contextmanager
def inside(target: Path | str | int) -> Iterator[None]:
    """Moves the calling thread into `target` for the block, and back afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(target)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def cookie_of(target: Path | str | int) -> int:
    """The cookie of another network namespace; 0 before Linux 5.14."""
    with inside(target):
        return netns_cookie()


def netns_cookie() -> int:
    """The cookie of the current network namespace; 0 before Linux 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
    cookie: int = struct.unpack("=Q", raw)[0]
    return cookie
