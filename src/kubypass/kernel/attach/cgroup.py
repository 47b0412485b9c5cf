# SPDX-License-Identifier: Apache-2.0
"""Attaching programs to the socket hooks of a cgroup v2 directory (Linux 5.7)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubypass.kernel.attach.link import Link, create_link
from kubypass.kernel.program import Program

_ATTACH_TYPES = {
    "bind4": 8,
    "bind6": 9,
    "connect4": 10,
    "connect6": 11,
    "sendmsg4": 14,
    "sendmsg6": 15,
    "recvmsg4": 19,
    "recvmsg6": 20,
    "getpeername4": 29,
    "getpeername6": 30,
}
CGROUP_HOOKS = tuple(_ATTACH_TYPES)
"""The system calls that programs see, by family."""


@dataclass(frozen=True, slots=True)
class CgroupHook:
    """One hook of one cgroup; `cgroup_hooks` makes it."""

    name: str
    """One of CGROUP_HOOKS."""
    fd: int
    number: int

    def attach(self, program: Program) -> Link:
        """Attaches the program to processes in the cgroup and below; KernelError where the kernel refuses."""
        subject = f"cgroup hook {self.name}"
        return create_link(program, self.fd, _ATTACH_TYPES[self.name], subject)

    def holds(self, link: Link) -> bool:
        """Whether the link is on this cgroup; the kernel says 0 for a cgroup that is gone."""
        number: int = struct.unpack_from("=Q", link.info(), 16)[0]
        return number == self.number


@contextmanager
def cgroup_hooks(cgroup: Path) -> Iterator[dict[str, CgroupHook]]:
    """The hooks of a cgroup by their names, while its directory is open."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        number = os.fstat(fd).st_ino
        yield {name: CgroupHook(name, fd, number) for name in CGROUP_HOOKS}
    finally:
        os.close(fd)
