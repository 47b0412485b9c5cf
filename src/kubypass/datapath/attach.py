# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to the node's cgroup and to devices by pinned links. Updates in place miss no packet.

Where the kernel has no tcx (before Linux 6.6), devices get clsact filters, which belong to the device and not to a pin.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel.attach.cgroup import CGROUP_HOOKS, cgroup_hooks
from kubypass.kernel.attach.clsact import ClsactHook
from kubypass.kernel.attach.link import Link, LinkHook
from kubypass.kernel.attach.tcx import TcxHook
from kubypass.kernel.bpffs_names import bpffs_name, from_bpffs_name
from kubypass.kernel.program import Program

DIRECTIONS = {
    "from_pod": "ingress",
    "to_pod": "egress",
    "from_uplink": "ingress",
    "to_uplink": "egress",
    "to_self": "egress",
}
BIND_HOOKS = ("bind4", "bind6")
BALANCE_HOOKS = tuple(hook for hook in CGROUP_HOOKS if hook not in BIND_HOOKS)
POD_PROGRAMS = ("from_pod", "to_pod")
UPLINK_PROGRAMS = ("from_uplink", "to_uplink")
LOOPBACK_PROGRAMS = ("to_self",)
_CGROUP = "cgroup"
_DEVICE_CGROUP = ":63group"
"""A device may have this name, too: its first letter is escaped as in bpffs_names.py."""


def l3_program(name: str) -> str:
    """The name of a program as it is for devices without Ethernet header."""
    return f"{name}_l3"


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
        for name in set(CGROUP_HOOKS) - wanted:
            self._drop(self._directory / f"{_CGROUP}-{name}")
        with cgroup_hooks(cgroup) as found:
            for name in sorted(wanted):
                self._attach(found[name], programs[name], self._directory / f"{_CGROUP}-{name}")

    def attach_device(self, name: str, ifindex: int, program_name: str, program: Program) -> None:
        """Attaches one program to one device."""
        direction = DIRECTIONS[program_name]
        if not self._tcx:
            filters = ClsactHook(ifindex, direction)
            if filters.program_id != program.id:
                filters.attach(program)
                self.writes += 1
            return
        self._attach(TcxHook(ifindex, direction), program, self._device_pin(name, direction))

    def drop_device(self, name: str) -> None:
        """Removes the pins of a device, and its links with them."""
        for direction in ("ingress", "egress"):
            self._drop(self._device_pin(name, direction))

    def devices(self) -> set[str]:
        """Returns the names of devices that have links here."""
        names = (path.name.rpartition("-")[0] for path in self._directory.iterdir())
        return {from_bpffs_name(name) for name in names if name != _CGROUP}

    def _device_pin(self, name: str, direction: str) -> Path:
        file_name = _DEVICE_CGROUP if name == _CGROUP else bpffs_name(name)
        return self._directory / f"{file_name}-{direction}"

    def _drop(self, path: Path) -> None:
        if path.exists():
            path.unlink()
            self.writes += 1

    def _attach(self, hook: LinkHook, program: Program, path: Path) -> None:
        if self._keep(path, hook, program):
            return
        link = hook.attach(program)
        self._directory.mkdir(parents=True, exist_ok=True)
        link.pin(str(path))
        self.writes += 1

    def _keep(self, path: Path, hook: LinkHook, program: Program) -> bool:
        """Keeps the pinned link if the hook holds it, and gives it our program if it has another."""
        if not path.exists():
            return False
        link = Link.open_pinned(str(path))
        if not hook.holds(link):
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
