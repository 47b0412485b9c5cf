# SPDX-License-Identifier: Apache-2.0
"""XDP on the uplinks: which devices have the program, in which mode, and why others have none.

The map `xdp_devices` is the switch: the program passes everything of a device that is not in it. So a program is
attached before its device is entered, and the map is emptied before connections move to other maps.
"""

from __future__ import annotations

from collections.abc import Callable

from kubypass.agent.log import log
from kubypass.datapath.attach import Attachments
from kubypass.datapath.loader import XDP_PROGRAMS, Datapath, drop_xdp_programs
from kubypass.datapath.local_addresses import xdp_devices
from kubypass.datapath.synced_map import SyncedMap
from kubypass.errors import ConfigError, KernelError
from kubypass.kernel.attach.xdp import XdpMode
from kubypass.kernel.ethtool import DriverFacts, read_driver
from kubypass.kernel.netlink import Link
from kubypass.kernel.program import Program
from kubypass.model.constants import XDP_DEVICES
from kubypass.model.problem import Problem
from kubypass.model.verdict import RedirectDomain
from kubypass.node.facts import NodeState
from kubypass.node.xdp_fit import (
    OTHER_END,
    AcceleratedDevice,
    takes_redirects,
    why_not,
    why_refused,
)

_DISABLED, _BEST_EFFORT = "disabled", "best-effort"
_NO_ROOM = (
    "another uplink has its place in the map xdp_devices: their indexes differ by a multiple of 256"
)


class Acceleration:
    """Follows the uplinks with one setting, `wanted`; `load` loads one of XDP_PROGRAMS when it is needed first."""

    def __init__(
        self,
        datapath: Datapath,
        attachments: Attachments,
        wanted: str,
        load: Callable[[str], Program],
        *,
        frags: bool,
    ) -> None:
        self._datapath = datapath
        self._attachments = attachments
        self._wanted = wanted
        self._load = load
        self._frags = frags
        self._program = XDP_PROGRAMS[wanted == XdpMode.GENERIC]
        self._table = SyncedMap(datapath.maps["xdp_devices"])
        self.devices: tuple[AcceleratedDevice, ...] = ()
        """Every uplink, in their order; none where the setting is off."""

    @property
    def problems(self) -> list[Problem]:
        """A problem for each uplink that lacks what the setting demands."""
        if self._wanted == _BEST_EFFORT:
            return []
        return [
            Problem(
                f"Device {one.name}",
                f"has no {self._wanted} XDP, which bpf-lb-acceleration demands: {one.reason}; its packets are balanced "
                "in tc, and it is tried again",
            )
            for one in self.devices
            if one.mode is None
        ]

    def refuse_incomplete(self) -> None:
        """Raises ConfigError where an uplink lacks what the setting demands, when an agent starts."""
        lacking = [one for one in self.devices if one.mode is None]
        if lacking and self._wanted != _BEST_EFFORT:
            raise ConfigError(
                f"bpf-lb-acceleration: {self._wanted}: {'; '.join(map(str, lacking))}",
                hint="best-effort uses XDP where that is possible; `devices` may leave a device out",
            )

    def pause(self) -> None:
        """Has XDP leave everything to tc, before connections move to other maps; links stay as they are."""
        if self._wanted == _DISABLED:
            self._switch_off()
        elif self._datapath.connections:
            self._table.apply(xdp_devices({}))
            try:
                self._attachments.update_xdp(self._load(self._program))
            except (KernelError, OSError):  # rather none than one that uses other maps
                self._attachments.drop_xdp()

    def sync(self, node: NodeState) -> int:
        """Attaches the program to the uplinks, and enters them; returns how many entries were written."""
        if self._wanted == _DISABLED:
            return self._switch_off()
        try:
            program = self._load(self._program)
        except (KernelError, OSError) as error:
            reason = f"its program was not loaded: {error}"
            self._note([AcceleratedDevice(link.name, None, reason) for link in node.uplinks])
            return self._switch_off(keep=True)
        found = [self._accelerate(node, link, program) for link in node.uplinks]
        taken: dict[int, Link] = {}
        for at, (link, (device, _)) in enumerate(zip(node.uplinks, found, strict=True)):
            if device.mode and taken.setdefault(link.index % XDP_DEVICES, link) is not link:
                found[at] = AcceleratedDevice(link.name, None, _NO_ROOM), RedirectDomain.NONE
        self._note([device for device, _ in found])
        wanted = {
            link.index: (link.mac, domain)
            for link, (device, domain) in zip(node.uplinks, found, strict=True)
            if device.mode
        }
        written = self._table.apply(xdp_devices(wanted))
        self._attachments.drop_xdp({device.name for device in self.devices if device.mode})
        drop_xdp_programs(self._datapath, keep=self._program)
        return written

    def _accelerate(
        self, node: NodeState, link: Link, program: Program
    ) -> tuple[AcceleratedDevice, RedirectDomain]:
        driver = read_driver(link.name)
        reason = why_not(link, node.links.values(), driver, self._wanted, frags=self._frags)
        mode = XdpMode.GENERIC if self._wanted == XdpMode.GENERIC else XdpMode.NATIVE
        if not reason:
            try:
                self._attachments.attach_xdp(link.name, link.index, mode, program)
            except KernelError as error:
                reason = why_refused(error, driver)
            except OSError as error:
                reason = str(error)
        if reason:
            return AcceleratedDevice(link.name, None, reason), RedirectDomain.NONE
        return self._attached(link, mode, driver)

    @staticmethod
    def _attached(
        link: Link, mode: XdpMode, driver: DriverFacts
    ) -> tuple[AcceleratedDevice, RedirectDomain]:
        if mode == XdpMode.GENERIC:
            return AcceleratedDevice(link.name, mode), RedirectDomain.GENERIC
        note = OTHER_END if link.kind == "veth" else ""
        domain = RedirectDomain.NATIVE if takes_redirects(driver) else RedirectDomain.NONE
        return AcceleratedDevice(link.name, mode, note), domain

    def _note(self, devices: list[AcceleratedDevice]) -> None:
        for one in devices:
            if one not in self.devices:
                log("XDP", device=one.name, mode=one.mode or "none", reason=one.reason or "-")
        self.devices = tuple(devices)

    def _switch_off(self, *, keep: bool = False) -> int:
        """Leaves everything to tc, then takes the program off; with `keep` the devices stay noted."""
        written = self._table.apply(xdp_devices({}))
        self._attachments.drop_xdp()
        drop_xdp_programs(self._datapath)
        if not keep:
            self.devices = ()
        return written
