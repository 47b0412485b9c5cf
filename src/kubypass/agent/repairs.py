# SPDX-License-Identifier: Apache-2.0
"""Puts back what others have changed on the node, each part by itself: one that cannot be put back is a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kubypass.agent.agent import Agent
from kubypass.agent.programs import Programs
from kubypass.datapath import loader
from kubypass.errors import KernelError
from kubypass.kernel import mounts
from kubypass.model.problem import Problem
from kubypass.node.host_routing import end_host_routing, host_routing_sysctls, send_redirects
from kubypass.node.mounts import provide_bpffs
from kubypass.node.reserved_ports import reserve_node_ports
from kubypass.node.reverse_path import ReversePathFilters
from kubypass.node.sysctls import (
    device_forwarding,
    forwarding_off,
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
        self._pod_devices: frozenset[str] = frozenset()
        """The pods' devices whose sysctls were set: what differs there now was changed by somebody."""
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

    def has_new(self, pod_devices: tuple[str, ...]) -> bool:
        """Whether the sysctls of one of these devices have not been set yet."""
        return not self._pod_devices.issuperset(pod_devices)

    def sysctls(self, pod_devices: tuple[str, ...] = ()) -> int:
        """Sets the sysctls that services and pods need; returns how many were changed, but for those of new devices."""
        record, settings = self._agent.record, self._agent.settings
        known, self._pod_devices = self._pod_devices, frozenset(pod_devices)
        filters = ReversePathFilters()
        node = [partial(set_sysctl, record, name, "1") for name in node_forwarding(settings)]
        changed, failed = _try_each(node)
        self._note(_FORWARDING, failed)
        of_new, failed = _try_each(self._of_pods(self._pod_devices - known, filters))
        of_known, more = _try_each(self._of_pods(self._pod_devices & known, filters))
        of_node, most = _try_each(self._of_node(filters))
        self._note(_OF_DEVICES, [*failed, *more, *most])
        changed += of_known + of_node
        changed += self._put_back("host routing", lambda: end_host_routing(record, settings))
        changed += self._put_back(_RESERVED, lambda: reserve_node_ports(record, settings))
        self._agent.writes["sysctls"] += changed + of_new
        return changed

    def _of_node(self, filters: ReversePathFilters) -> Iterator[Callable[[], bool]]:
        """What sets the sysctls of the node's own devices."""
        record, settings = self._agent.record, self._agent.settings
        for link in self._agent.node.own_devices:
            for name in device_forwarding(settings, link.name):
                yield partial(set_sysctl, record, name, "1")
        if settings.network.ipv4:
            yield partial(filters.loosen, "lo", record)  # where the node answers itself
        uplinks = [link.name for link in self._agent.node.uplinks]
        yield from host_routing_sysctls(record, settings, uplinks, filters)

    def _of_pods(
        self, devices: Iterable[str], filters: ReversePathFilters
    ) -> Iterator[Callable[[], bool]]:
        """What sets the sysctls of pods' devices."""
        settings = self._agent.settings
        for device in devices:
            for name in device_forwarding(settings, device):
                yield partial(switch_on, name)
            if settings.network.ipv4 and settings.pods.verify_sources:  # our own check is stricter
                yield partial(filters.loosen, device)
            if settings.network.ipv4 and settings.routing.legacy_host:
                yield partial(set_sysctl, None, send_redirects(device), "0")

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

    def _note(self, what: str, failed: list[str]) -> None:
        """Makes one problem of all that failed; none where nothing did."""
        self._failed.pop(what, None)
        if failed:
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
            message = f"{what} cannot be set: {failed[0]}{more}; it is tried again"
            self._failed[what] = Problem("This node", message)

    def _put_back(self, what: str, how: Callable[[], int]) -> int:
        changed, failed = _try_each([how])
        self._note(what, failed)
        return changed


def _try_each(switches: Iterable[Callable[[], int]]) -> tuple[int, list[str]]:
    """Sets each, whatever becomes of the others; returns how many were changed, and what failed."""
    changed, failed = 0, []
    for switch in switches:
        try:
            changed += switch()
        except (KernelError, OSError) as error:
            failed.append(str(error))
    return changed, failed
