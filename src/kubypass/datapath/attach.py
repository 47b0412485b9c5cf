# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to the node's cgroup and to devices by pinned links. Updates in place miss no packet.

Where the kernel has no tcx (before Linux 6.6), devices get clsact filters, which belong to the device and not to a pin.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel import clsact
from kubypass.kernel.program import CGROUP_ATTACH, Link, Program

DIRECTIONS = {
    "from_pod": "ingress",
    "to_pod": "egress",
    "from_uplink": "ingress",
    "to_uplink": "egress",
    "to_self": "egress",
}
BIND_HOOKS = ("bind4", "bind6")
BALANCE_HOOKS = tuple(hook for hook in CGROUP_ATTACH if hook not in BIND_HOOKS)
POD_PROGRAMS = ("from_pod", "to_pod")
UPLINK_PROGRAMS = ("from_uplink", "to_uplink")
LOOPBACK_PROGRAMS = ("to_self",)


class Attachments:
    """The links in one directory. `writes` counts what was attached, replaced or detached."""

    def __init__(self, directory: Path, *, tcx: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._tcx = tcx
        self.writes = 0

    def attach_cgroup(
        self, cgroup: Path, programs: dict[str, Program], hooks: Iterable[str]
    ) -> None:
        """Attaches the socket programs of these hooks to one cgroup v2 directory, and detaches those of other hooks."""
        wanted = set(hooks)
        for hook in CGROUP_ATTACH.keys() - wanted:
            self._drop(self._directory / f"cgroup-{hook}")
        number = cgroup.stat().st_ino
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for hook in sorted(wanted):
                program = programs[hook]
                path = self._directory / f"cgroup-{hook}"
                if not self._keep(path, program, lambda link: link.cgroup == number):
                    self._pin(Link.attach_cgroup(program, fd, hook), path)
        finally:
            os.close(fd)

    def attach_device(self, name: str, ifindex: int, program_name: str, program: Program) -> None:
        """Attaches one program to one device."""
        direction = DIRECTIONS[program_name]
        if not self._tcx:
            if clsact.attached_id(ifindex, direction) != program.id:
                clsact.attach(program.fd, ifindex, direction)
                self.writes += 1
            return
        path = self._directory / f"{name}-{direction}"
        if not self._keep(path, program, lambda link: link.device == ifindex):
            self._pin(Link.attach_tcx(program, ifindex, direction), path)

    def drop_device(self, name: str) -> None:
        """Removes the pins of a device, and its links with them."""
        for direction in ("ingress", "egress"):
            self._drop(self._directory / f"{name}-{direction}")

    def devices(self) -> set[str]:
        """Returns the names of devices that have links here."""
        names = (path.name.rpartition("-")[0] for path in self._directory.iterdir())
        return {name for name in names if name != "cgroup"}

    def _drop(self, path: Path) -> None:
        if path.exists():
            path.unlink()
            self.writes += 1

    def _keep(self, path: Path, program: Program, fits: Callable[[Link], bool]) -> bool:
        """Keeps the pinned link if it is on the right object, and gives it our program if it has another."""
        if not path.exists():
            return False
        link = Link.open_pinned(str(path))
        if not fits(link):
            path.unlink()
            return False
        if link.program_id != program.id:
            try:
                link.update(program)
            except KernelError:  # the object is going away
                path.unlink()
                return False
            self.writes += 1
        return True

    def _pin(self, link: Link, path: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        link.pin(str(path))
        self.writes += 1
