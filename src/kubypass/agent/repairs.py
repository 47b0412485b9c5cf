# SPDX-License-Identifier: Apache-2.0
"""Puts back what others have changed on the node, each part by itself: one that cannot be put back is a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from kubypass.agent.agent import Agent
from kubypass.agent.programs import Programs
from kubypass.datapath import loader
from kubypass.errors import KernelError
from kubypass.kernel import mounts
from kubypass.model.problem import Problem
from kubypass.node.mounts import provide_bpffs
from kubypass.node.reserved_ports import reserve_node_ports
from kubypass.node.sysctls import (
    device_forwarding,
    forwarding_off,
    node_forwarding,
    set_sysctl,
    switch_on,
)


class Repairs:
    """What could not be put back, and how much was."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._failed: dict[str, Problem] = {}
        self.count = 0
        """How often something had to be put back since the start."""

    @property
    def problems(self) -> list[Problem]:
        """A problem for each part that cannot be put back now."""
        return list(self._failed.values())

    def sysctls(self, pod_devices: tuple[str, ...] = ()) -> int:
        """Sets the sysctls that services and pods need; returns how many were changed."""
        agent = self._agent
        record, settings = agent.record, agent.settings
        changed = self.forwarding()
        devices: dict[str, Callable[[], bool]] = {}
        for link in agent.node.own_devices:
            for name in device_forwarding(settings, link.name):
                devices[name] = partial(set_sysctl, record, name, "1")
        for device in pod_devices:
            devices.update(
                {name: partial(switch_on, name) for name in device_forwarding(settings, device)}
            )
        on_devices = self._set_each("forwarding of devices", devices)
        reserved = self._put_back("reserved ports", lambda: reserve_node_ports(record, settings))
        agent.writes["sysctls"] += on_devices + reserved
        return changed + on_devices + reserved

    def forwarding(self) -> int:
        """Makes the node forward; returns how many sysctls were changed. It costs some reads where nothing is off."""
        agent = self._agent
        if not (forwarding_off(agent.settings) or "forwarding" in self._failed):
            return 0
        names = node_forwarding(agent.settings)
        each = {name: partial(set_sysctl, agent.record, name, "1") for name in names}
        changed = self._set_each("forwarding", each)
        agent.writes["sysctls"] += changed
        return changed

    def pins(self, programs: Programs) -> int:
        """Pins what is not pinned, on a filesystem that may have to be mounted again; returns how many."""
        bpffs = self._agent.options.bpffs

        def pin() -> int:
            if not mounts.is_bpffs(bpffs):
                provide_bpffs(self._agent.record, bpffs)
            return loader.pin_missing(programs.datapath)

        return self._put_back("pins", pin)

    def unpinned(self, programs: Programs) -> None:
        """Takes in links that could not be pinned by the look that has just ended."""
        found, programs.attachments.unpinned = programs.attachments.unpinned, {}
        self._failed.pop("links", None)
        if found:
            name, reason = next(iter(found.items()))
            message = (
                f"{len(found)} links are not pinned ({name}: {reason}), and end with the agent; they are served "
                "until then; mount the bpf filesystem, or free it; it is tried again"
            )
            self._failed["links"] = Problem("This node", message)

    @property
    def outages(self) -> list[Problem]:
        """The problems that keep pods from being served."""
        return [one for what, one in list(self._failed.items()) if what.startswith("forwarding")]

    def _set_each(self, what: str, switches: Mapping[str, Callable[[], bool]]) -> int:
        """Sets each sysctl, whatever becomes of the others; returns how many were changed."""
        changed, failed = 0, []
        for switch in switches.values():
            try:
                changed += switch()
            except (KernelError, OSError) as error:
                failed.append(str(error))
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            message = f"{what} cannot be set: {failed[0]}{more}; it is tried again"
            self._failed[what] = Problem("This node", message)
        else:
            self._failed.pop(what, None)
        return changed

    def _put_back(self, what: str, how: Callable[[], int]) -> int:
        try:
            changed = how()
        except (KernelError, OSError) as error:
            message = f"{what} cannot be set: {error}; it is tried again"
            self._failed[what] = Problem("This node", message)
            return 0
        self._failed.pop(what, None)
        return changed
