# SPDX-License-Identifier: Apache-2.0
"""Puts back what others have changed on the node, each part by itself: one that cannot be put back is a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    loosen,
    node_forwarding,
    set_sysctl,
    switch_on,
)

_FORWARDING, _OF_DEVICES = "forwarding", "forwarding of devices"
_RESERVED = "reserved ports"
_SYSCTLS = frozenset({_FORWARDING, _OF_DEVICES, _RESERVED})


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

    @property
    def sysctls_due(self) -> bool:
        """Whether forwarding is off, or a sysctl could not be set the last time. It costs some reads."""
        failed = not self._failed.keys().isdisjoint(_SYSCTLS)
        return failed or bool(forwarding_off(self._agent.settings))

    def sysctls(self, pod_devices: tuple[str, ...] = ()) -> int:
        """Sets the sysctls that services and pods need; returns how many were changed."""
        agent = self._agent
        record, settings = agent.record, agent.settings
        own = [
            name
            for link in agent.node.own_devices
            for name in device_forwarding(settings, link.name)
        ]
        pods = [name for device in pod_devices for name in device_forwarding(settings, device)]
        node = [partial(set_sysctl, record, name, "1") for name in node_forwarding(settings)]
        devices = [partial(set_sysctl, record, name, "1") for name in own]
        devices += [partial(switch_on, name) for name in pods]
        if settings.network.ipv4:
            devices.append(partial(loosen, "lo", record))  # where the node answers itself
        if settings.network.ipv4 and settings.pods.verify_sources:  # ours is stricter
            devices += [partial(loosen, device) for device in pod_devices]
        changed = self._set_each(_FORWARDING, node) + self._set_each(_OF_DEVICES, devices)
        changed += self._put_back(_RESERVED, lambda: reserve_node_ports(record, settings))
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

    def _set_each(self, what: str, switches: Iterable[Callable[[], bool]]) -> int:
        """Sets each sysctl, whatever becomes of the others; returns how many were changed."""
        changed, failed = 0, []
        for switch in switches:
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
