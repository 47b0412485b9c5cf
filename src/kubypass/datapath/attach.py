# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to the node's cgroup and to devices by pinned links. Updates in place miss no packet.

Where the kernel has no tcx (before Linux 6.6), devices get clsact filters, which belong to the device and not to a pin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kubypass.errors import KernelError
from kubypass.kernel.attach.cgroup import CGROUP_HOOKS, cgroup_hooks
from kubypass.kernel.attach.clsact import ClsactHook
from kubypass.kernel.attach.link import Link, LinkHook
from kubypass.kernel.attach.tcx import TcxHook
from kubypass.kernel.attach.xdp import XdpHook, XdpMode
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
_WAYS = ("ingress", "egress", *XdpMode)
"""What a pin of a device is for: a direction of tc, or a mode of XDP."""
_CGROUP = "cgroup"
_DEVICE_CGROUP = ":63group"
"""A device may have this name, too: its first letter is escaped as in bpffs_names.py."""


def l3_program(name: str) -> str:
    """The name of a program as it is for devices without Ethernet header."""
    return f"{name}_l3"


@dataclass(frozen=True, slots=True)
class _Held:
    """An open link, and what the kernel said of it when it was made. Open, it outlives its pin."""

    link: Link
    info: bytes


class Attachments:
    """The links in one directory. `writes` counts what was attached, replaced or detached."""

    def __init__(self, directory: Path, *, tcx: bool) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._tcx = tcx
        self._held: dict[Path, _Held] = {}
        self._rotation: Iterator[Path] = iter(())
        self.unpinned: dict[str, str] = {}
        """Links that could not be pinned, with the reason. They end with this process; the owner clears this."""
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

    def attach_xdp(self, name: str, ifindex: int, mode: XdpMode, program: Program) -> None:
        """Attaches the XDP program to a device, in this mode only; KernelError where that is impossible."""
        for other in XdpMode:
            if other != mode:
                self._drop_xdp(self._device_pin(name, other))
        self._attach(XdpHook(ifindex, mode), program, self._device_pin(name, mode))

    def update_xdp(self, program: Program) -> None:
        """Gives the program to all XDP links that are there, in place."""
        for path in list(self._directory.iterdir()):
            if path.name.rpartition("-")[2] in set(XdpMode):
                link = Link.open_pinned(str(path))
                if link.program_id != program.id:
                    link.update(program)
                    self.writes += 1

    def drop_xdp(self, keep: Collection[str] = ()) -> None:
        """Detaches XDP from all devices but those whose names are kept."""
        for path in list(self._directory.iterdir()):
            name, _, way = path.name.rpartition("-")
            if way in set(XdpMode) and from_bpffs_name(name) not in keep:
                self._drop_xdp(path)

    def _drop_xdp(self, path: Path) -> None:
        """Detaches a link of XDP: a device takes another program only after that."""
        try:
            if path.exists():
                Link.open_pinned(str(path)).detach()
        except KernelError:  # the device is going away, or the pin is none of a link
            pass
        self._drop(path)

    def has_filter(self, ifindex: int, program_name: str, program: Program) -> bool:
        """Whether the device has this program where filters are used; True where links are."""
        return self._tcx or ClsactHook(ifindex, DIRECTIONS[program_name]).program_id == program.id

    def has_program(self, name: str, ifindex: int, direction: str) -> bool:
        """Whether the device has a program of ours, of whatever version."""
        if self._tcx:
            return self._device_pin(name, direction).exists()
        return ClsactHook(ifindex, direction).program_id != 0

    def drop_device(self, name: str) -> None:
        """Removes the pins of a device, and its links with them."""
        for way in _WAYS:
            self._drop(self._device_pin(name, way))

    def devices(self) -> set[str]:
        """Returns the names of devices that have links here."""
        names = (path.name.rpartition("-")[0] for path in self._directory.iterdir())
        return {from_bpffs_name(name) for name in names if name != _CGROUP}

    def _device_pin(self, name: str, direction: str) -> Path:
        file_name = _DEVICE_CGROUP if name == _CGROUP else bpffs_name(name)
        return self._directory / f"{file_name}-{direction}"

    def _drop(self, path: Path) -> None:
        held = self._held.pop(path, None)
        if held is not None:
            held.link.close()
        if path.exists():
            path.unlink()
            self.writes += 1

    def _attach(self, hook: LinkHook, program: Program, path: Path) -> None:
        link = self._keep(path, hook, program)
        if link is None:
            link = hook.attach(program)
        self._held[path] = _Held(link, link.info())  # attached from here on, pinned or not
        if path.exists():
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            link.pin(str(path))
            self.writes += 1
        except (KernelError, OSError) as error:  # is the bpf filesystem gone? traffic goes on
            self.unpinned[path.name] = str(error)

    @property
    def pins(self) -> set[str]:
        """The names of the pins that belong here."""
        return {path.name for path in self._held}

    def look(self, first: Iterable[str], at_most: int) -> list[str]:
        """Links that are not as they were made, of those of the cgroup, of these devices, and `at_most` others in turn.

        A link is described by one system call. Filters have to be looked at by `attach_device`.
        """
        always = [self._directory / f"{_CGROUP}-{name}" for name in CGROUP_HOOKS]
        always += [self._device_pin(name, way) for name in first for way in _WAYS]
        looked_at = dict.fromkeys((*always, *islice(self._in_turn(), at_most)))
        return [path.name for path in looked_at if not self._is_intact(path)]

    def _is_intact(self, path: Path) -> bool:
        held = self._held.get(path)
        return held is None or held.link.info() == held.info

    def _in_turn(self) -> Iterator[Path]:
        yield from self._rotation
        self._rotation = iter(list(self._held))

    def _keep(self, path: Path, hook: LinkHook, program: Program) -> Link | None:
        """The link that is there already, if the hook holds it; it gets our program if it has another.

        A link whose pin somebody has removed is attached for as long as we hold it, and is pinned again.
        """
        pinned, held = path.exists(), self._held.get(path)
        if not pinned and held is None:
            return None
        try:
            link = Link.open_pinned(str(path)) if pinned or held is None else held.link
            if hook.holds(link):
                if link.program_id != program.id:
                    link.update(program)
                    self.writes += 1
                return link
        except KernelError:  # the object is going away, or the pin is none of a link
            pass
        path.unlink(missing_ok=True)
        return None
