# SPDX-License-Identifier: Apache-2.0
"""Attaches programs to the devices of this node and its pods, and keeps the map of their addresses."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from kubypass.datapath.attach import (
    DIRECTIONS,
    LOOPBACK_PROGRAMS,
    POD_PROGRAMS,
    UPLINK_PROGRAMS,
    Attachments,
    l3_program,
)
from kubypass.datapath.loader import Datapath
from kubypass.datapath.local_addresses import (
    device_entry,
    empty_devices,
    foreign_entry,
    node_entries,
    pod_entries,
    primary_entry,
)
from kubypass.datapath.synced_map import SyncedMap
from kubypass.errors import KernelError
from kubypass.kernel import features, netns
from kubypass.kernel.netlink import FrameHeader, Link
from kubypass.model.address import Address
from kubypass.model.constants import NETNS_UNKNOWN
from kubypass.model.pod import INTERFACE_PREFIX, Pod, PodMetadata, with_metadata
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.node.facts import NodeState, interface_index
from kubypass.node.pod_records import PodRecords
from kubypass.plan.foreign_sources import may_send_foreign
from kubypass.plan.socket_lb import is_excluded
from kubypass.settings.settings import Settings

_NO_DEVICES = empty_devices()


def _endpoints(pod: Pod, link: Link) -> dict[bytes, bytes]:
    netns_id = link.peer_netns if link.peer_netns >= 0 else NETNS_UNKNOWN
    return pod_entries(pod, link.index, link.mac, netns_id)


def _cookie(pod: Pod) -> tuple[int, str]:
    """The cookie of the pod's network namespace; 0 with the reason where there is none."""
    if not pod.netns:
        return 0, "its record has no netns"
    try:
        features.NETNS_COOKIE.require()
        return netns.cookie_of(pod.netns), ""
    except (OSError, KernelError) as error:
        return 0, str(error)


def _off(cookie: int) -> dict[bytes, bytes]:
    """The entry of `socket_lb_off` for a network namespace."""
    return {struct.pack("=Q", cookie): struct.pack("=I", 1)}


class Network:
    """Follows pods and addresses. `problems` are those of the last look."""

    def __init__(
        self,
        datapath: Datapath,
        attachments: Attachments,
        pods: Path,
        settings: Settings,
        metadata: Mapping[ServiceKey, PodMetadata],
    ) -> None:
        self.settings = settings
        self._metadata = metadata
        self._programs = datapath.programs
        self._attachments = attachments
        self._records = PodRecords(pods)
        self._attached: dict[str, int] = {}
        """Devices of pods with our programs: their indexes by name."""
        self._endpoints = SyncedMap(datapath.maps["local_addresses"])
        self._primary = SyncedMap(datapath.maps["node_addresses"])
        self._devices = SyncedMap(datapath.maps["pod_devices"])
        self._foreign_sources = SyncedMap(datapath.maps["foreign_sources"])
        self._socket_lb_off = SyncedMap(datapath.maps["socket_lb_off"])
        self.addresses: frozenset[Address] = frozenset()
        """The addresses of the pods."""
        self.problems: list[Problem] = []
        self.device_problems: list[Problem] = []
        """Devices of the node itself that have no programs."""
        self.incomplete = False
        """Whether the last look could not do all that it had to, so that another one may."""
        self.excluded = 0
        """The number of pods whose sockets are excluded from socket load balancing."""
        self.foreign_sources = 0
        """The number of pods that may send from addresses that are not theirs."""

    @property
    def pods(self) -> int:
        """The number of pods with our programs."""
        return len(self._attached)

    def has_programs(self, link: Link) -> bool:
        """Whether a pod's device has our programs, and not an earlier one of its name."""
        return self._attached.get(link.name) == link.index

    @property
    def devices(self) -> tuple[str, ...]:
        """The pods' devices with our programs."""
        return tuple(self._attached)

    def sync(self, node: NodeState, *, thorough: bool = True) -> int:
        """Makes pods known, since what they send is checked, and attaches programs; returns how many entries it wrote.

        A look that is not thorough takes what we did before as still being there.
        """
        found, self.problems = self._records.read()
        self.incomplete = False
        wanted = node_entries(node.addresses, node.with_node_ports)
        names = {link.name for link in node.own_devices}
        here = self._with_devices(found, node)
        self.addresses = frozenset(address for pod, _ in here for address in pod.addresses)
        written = self._know_senders(here, thorough=thorough)
        entries = [_endpoints(pod, link) for pod, link in here]
        everything = {key: value for some in entries for key, value in some.items()}
        written += self._write(
            self._endpoints, everything, "local_addresses", thorough=thorough, keep_others=True
        )
        attached: dict[str, int] = {}
        for (pod, link), own in zip(here, entries, strict=True):
            try:
                if thorough or self._attached.get(link.name) != link.index:
                    self._attach(link)
            except (KernelError, OSError) as error:
                message = f"gets no traffic: {error}; it is tried again"
                self.problems.append(Problem(f"Pod {pod.namespace}/{pod.name}", message))
                self.incomplete = True
                continue
            attached[link.name] = link.index
            wanted.update(own)
        self._attached = attached
        written += self._write(self._endpoints, wanted, "local_addresses", thorough=False)
        primary = primary_entry(node.primary, node.only_families)
        written += self._write(self._primary, primary, "node_addresses", thorough=thorough)
        written += self._exclude_sockets(found)
        self._drop_devices(self._attachments.devices() - names - attached.keys())
        return written

    def _drop_devices(self, names: Iterable[str]) -> None:
        """Drops what devices have that are no pod's; what cannot be dropped is a problem."""
        for name in names:
            try:
                self._attachments.drop_device(name)
            except OSError as error:
                message = f"keeps programs of ours: {error}; it is tried again"
                self.problems.append(Problem(f"Device {name}", message))
                self.incomplete = True

    def _with_devices(self, pods: list[Pod], node: NodeState) -> list[tuple[Pod, Link]]:
        """The pods that have a device here; the others are problems."""
        here = []
        for pod in pods:
            link = node.links.get(pod.interface)
            if link is not None:
                here.append((pod, link))
                continue
            message = (
                f"has no device {pod.interface} on this node; it gets no traffic until it is there"
            )
            self.problems.append(Problem(f"Pod {pod.namespace}/{pod.name}", message))
        return here

    def _write(
        self,
        target: SyncedMap,
        wanted: Mapping[bytes, bytes],
        name: str,
        *,
        thorough: bool = True,
        keep_others: bool = False,
    ) -> int:
        """Writes a map; what the kernel refuses is a problem, and the other maps go on."""
        try:
            return target.apply(wanted, thorough=thorough, keep_others=keep_others)
        except KernelError as error:
            message = f"{len(wanted)} entries belong there: {error}; it is tried again"
            self.problems.append(Problem(f"Map {name}", message))
            self.incomplete = True
            return 0

    def connect(self, pod: Pod, link: Link) -> None:
        """Connects one new pod without a look at the others; KernelError where that fails."""
        self._devices.add(device_entry(pod, link.index))
        if any(map(may_send_foreign, with_metadata([pod], self._metadata))):
            self._foreign_sources.add(foreign_entry(link.index))
        self._attach(link)
        self._attached[link.name] = link.index
        self._endpoints.add(_endpoints(pod, link))
        for excluded in self._excluded([pod]):  # before the pod's first socket
            cookie, _ = _cookie(excluded)  # the next look reports a pod that has none
            if cookie:
                self._socket_lb_off.add(_off(cookie))

    def disconnect(self, addresses: Iterable[Address], interface: str) -> None:
        """Disconnects a pod that goes, or is gone already."""
        self._endpoints.remove(addresses)
        self._attachments.drop_device(interface)
        self._attached.pop(interface, None)

    def _attach(self, link: Link) -> None:
        for name in POD_PROGRAMS:
            self._attachments.attach_device(link.name, link.index, name, self._programs[name])

    def switch_direction(self, node: NodeState, direction: str) -> None:
        """Replaces the programs of one direction on all devices that have some, before those of the other.

        With legacy host routing, a packet is completed by the program of the device that it leaves by: that one comes
        first where programs begin to count on it, and last where they cease to. What fails is tried again, and told,
        by the looks that follow.
        """
        pods = [link for name, link in node.links.items() if name.startswith(INTERFACE_PREFIX)]
        wanted = [(link, dict(zip(POD_PROGRAMS, POD_PROGRAMS, strict=True))) for link in pods]
        wanted += [(link, _own_programs(node, link)) for link in node.own_devices]
        for link, programs in wanted:
            for hook, ours in programs.items():
                program = self._programs.get(ours)
                if DIRECTIONS[hook] != direction or program is None:
                    continue
                with suppress(KernelError, OSError):
                    if self._attachments.has_program(link.name, link.index, direction):
                        self._attachments.attach_device(link.name, link.index, hook, program)

    def _know_senders(self, pods: list[tuple[Pod, Link]], *, thorough: bool) -> int:
        """Says which address is behind each device, and which pods may send from any; returns the entries written."""
        devices, foreign = dict(_NO_DEVICES), {}
        known = with_metadata([pod for pod, _ in pods], self._metadata)
        for pod, (_, link) in zip(known, pods, strict=True):
            devices.update(device_entry(pod, link.index))
            if may_send_foreign(pod):
                foreign.update(foreign_entry(link.index))
        self.foreign_sources = len(foreign)
        written = self._write(self._devices, devices, "pod_devices", thorough=thorough)
        return written + self._write(
            self._foreign_sources, foreign, "foreign_sources", thorough=thorough
        )

    def _exclude_sockets(self, pods: list[Pod]) -> int:
        """Excludes the sockets of some pods from socket load balancing, from their next connect() on."""
        wanted: dict[bytes, bytes] = {}
        for pod in self._excluded(pods):
            cookie, reason = _cookie(pod)
            if cookie:
                wanted |= _off(cookie)
            else:
                message = f"is to have no socket load balancing, and has it all the same: {reason}"
                self.problems.append(Problem(f"Pod {pod.namespace}/{pod.name}", message))
        self.excluded = len(wanted)
        return self._write(self._socket_lb_off, wanted, "socket_lb_off")

    def _excluded(self, pods: list[Pod]) -> list[Pod]:
        """The pods whose sockets are excluded, by their records and by their metadata in the API."""
        settings = self.settings
        if not settings.socket_lb_pods:
            return []
        return [pod for pod in with_metadata(pods, self._metadata) if is_excluded(pod, settings)]

    def attach_own_devices(self, node: NodeState) -> None:
        """Attaches the programs of the uplinks and of the loopback device; one that fails is a problem."""
        problems = []
        for link in node.own_devices:
            if set(_own_programs(node, link).values()) - self._programs.keys():
                message = "nothing is served there: its programs were not loaded, as the log tells"
                problems.append(Problem(f"Device {link.name}", message))
                continue
            try:
                for name, ours in _own_programs(node, link).items():
                    program = self._programs[ours]
                    self._attachments.attach_device(link.name, link.index, name, program)
            except (KernelError, OSError) as error:
                # Otherwise it has gone since we looked.
                if interface_index(link.name) == link.index:
                    message = f"nothing is served there: {error}; it is tried again"
                    problems.append(Problem(f"Device {link.name}", message))
        self.device_problems = problems

    def without_filters(self, node: NodeState) -> list[str]:
        """Our own devices that lack a filter, where filters are used."""
        return [
            link.name
            for link in node.own_devices
            if not all(
                ours not in self._programs  # which is a problem already
                or self._attachments.has_filter(link.index, name, self._programs[ours])
                for name, ours in _own_programs(node, link).items()
            )
        ]


def _own_programs(node: NodeState, link: Link) -> dict[str, str]:
    """The programs of a device of the node, and the names under which they are loaded."""
    names = UPLINK_PROGRAMS if link in node.uplinks else LOOPBACK_PROGRAMS
    return {name: l3_program(name) if link.header == FrameHeader.NONE else name for name in names}
