# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects all the way into the real programs: JSON -> kube -> plan -> tables -> maps, and packets.

Programs are loaded once for each set of settings and share one set of maps, of no use to anybody else.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kubypass.agent.services import Result, Services
from kubypass.datapath import layout
from kubypass.datapath.config import datapath_config
from kubypass.datapath.entries import Entry
from kubypass.datapath.loader import XDP_PROGRAM
from kubypass.datapath.local_addresses import inside_entries, uplink_entry
from kubypass.datapath.synced_map import SyncedMap
from kubypass.kernel import bpf
from kubypass.kernel.features import probe_features
from kubypass.kernel.netns import inside
from kubypass.kernel.program import packet_context
from kubypass.kube.manifests.merged_files import MergedFiles
from kubypass.kube.manifests.parser import EMPTY, ParsedFile, Parser
from kubypass.kube.store import Dirty
from kubypass.model.address import Address, family, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.verdict import Hook, LocalAddressKind, Verdict
from kubypass.plan.items import PlanNode
from kubypass.plan.masquerade import masqueraded_families, plan_inside, plan_without
from kubypass.settings.check import check_settings
from kubypass.settings.settings import Settings
from tests.packet.counting import Counting
from tests.packet.driver import drive
from tests.packet.dsr import peers
from tests.packet.lab import Lab
from tests.packet.map_entries import drive_devices, pod_device
from tests.packet.packets import GATEWAY_MAC, NODE_MAC, POD_MAC, VETH_MAC
from tests.packet.uplink import POD_DEVICES, uplink_index

NODE = "node1"
HOOKS = {
    "from_pod": Hook.FROM_POD,
    "from_uplink": Hook.FROM_UPLINK,
    "to_uplink": Hook.TO_UPLINK,
    "to_pod": Hook.TO_POD,
}
NOBODY = "00:00:00:00:00:00"
TO_POD_MACS, TO_NETWORK_MACS = (POD_MAC, VETH_MAC), (GATEWAY_MAC, NODE_MAC)
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class NodeAddresses:
    """The node, as it would find itself."""

    primary: tuple[str, ...]
    """The primary address of each family."""
    others: tuple[str, ...]
    """More addresses of the node."""
    pods: tuple[str, ...]
    pod_networks: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """What became of a packet."""

    code: int
    verdict: Verdict
    packet: bytes


@dataclass
class Pipeline:
    """One node of a cluster that is given as objects."""

    lab: Lab
    node: NodeAddresses
    settings: Settings = field(default_factory=Settings)
    driver: bool = False
    """Whether packets from the network pass XDP before they reach from_uplink."""
    by_driver: int = 0
    """How many packets XDP has handled."""
    _files: MergedFiles = field(default_factory=MergedFiles)
    _dirty: Dirty = field(default_factory=Dirty)
    _services: Services | None = None
    _objects: dict[str, ParsedFile] = field(default_factory=dict)
    _counting: Counting | None = None

    def start(self, lab: Lab, settings: Mapping[str, str]) -> None:
        """An empty cluster on a node with these settings; `lab` has programs that were loaded with them."""
        self.lab = lab
        self.settings, findings = check_settings(settings)
        assert not [finding for finding in findings if finding.level == "wrong"]
        lab.clear()
        drive_devices(lab.maps, uplink_index())
        self._files, self._dirty, self._objects = MergedFiles(), Dirty(), {}
        self._write_local_addresses()
        self._write_inside()
        if self.settings.dsr.wanted:
            peers(lab)
        self._services = self._connect()
        self._services.sync_all()
        self._counting = None

    def _write_local_addresses(self) -> None:
        where, node = self.settings.node_ports.addresses, self.node
        primary = [parse_address(one) for one in node.primary]
        for one in node.primary + node.others:
            chosen = where.selects(parse_address(one), primary)
            self.lab.local_address(
                one, LocalAddressKind.NODE_PORTS if chosen else LocalAddressKind.NODE
            )
        for number, one in enumerate(node.pods, POD_DEVICES.start):
            self.lab.local_address(one, LocalAddressKind.POD, number)

    def _write_inside(self) -> None:
        """What pods reach with their own addresses, and the uplink, as the agent writes them."""
        nodes = self._files.snapshot().nodes.values()
        primary: dict[int, Address] = {
            family(parse_address(one)): parse_address(one) for one in self.node.primary
        }
        inside_of = plan_inside(self.settings, nodes, None)
        versions, _ = masqueraded_families(self.settings, inside_of, primary)
        sources: dict[int, Address] = {version: primary[version] for version in versions}
        maps = self.lab.maps
        without = plan_without(self.settings, versions)
        SyncedMap(maps["inside"]).apply(inside_entries({**without, **inside_of}))
        SyncedMap(maps["uplinks"]).apply(uplink_entry(uplink_index(), sources))

    def _connect(self) -> Services:
        files = self._files
        snapshot = files.snapshot()
        return Services(
            snapshot, self._plan_node(), self.settings, self.lab.maps, before_write=lambda *_: None
        )

    def _plan_node(self) -> PlanNode:
        own = self._files.snapshot().nodes.get(NODE)
        primary, others = (
            tuple(parse_address(one) for one in some)
            for some in (self.node.primary, self.node.others)
        )
        return PlanNode.of(NODE, own, primary, primary + others)

    def put(self, name: str, item: Mapping[str, Any] | None) -> None:
        """The object of this name is now this; None: it is gone. The maps follow at the next packet."""
        before = self._objects.pop(name, EMPTY)
        contents = None
        if item is not None:
            contents = Parser().parse(f"{name}.json", json.dumps(item).encode(), before)
            self._objects[name] = contents
        self._files.replace(f"{name}.json", contents, self._dirty)

    def sync(self) -> Result | None:
        """Brings the maps up to date, as the agent does."""
        assert self._services
        dirty, self._dirty = self._dirty, Dirty()
        if NODE in dirty.nodes and self._services.move(self._plan_node()):
            return self._services.sync_all()
        return self._services.sync(dirty.services) if dirty.services else None

    def restart(self) -> Result:
        """Another agent over the same maps."""
        self.sync()
        self._services = self._connect()
        return self._services.sync_all()

    def age(self, seconds: int) -> None:
        """Lets so much time pass for session affinity."""
        timeouts = {entry.id: entry.item.affinity_s for entry in self._entries()}
        table = self.lab.maps["affinities"]
        for key, raw in list(table.items()):
            value = layout.Affinity.unpack(raw)
            used = value.used_ns - seconds * _SECOND
            # A machine that runs for less time than that cannot say it.
            if used <= 0 and seconds > timeouts.get(layout.AffinityClient.unpack(key).service, 0):
                table.delete(key)
            else:
                table.update(key, value._replace(used_ns=max(used, 1)).pack())

    def _entries(self) -> Iterator[Entry]:
        assert self._services
        return iter(self._services._tables.entries.values())

    def run(self, hook: str, packet: bytes, *, cut: bool = False) -> Seen:
        """Runs one packet through one program, in the lab's namespace.

        When a packet is `cut` the kernel takes the device's sum for void, but test run would still compare it.
        """
        self.lab.maps["icmp_budget"].update(bytes(4), _full_budget())
        counting = self._counting = self._counting or Counting(self.lab.maps["metrics"])
        counting.begin(HOOKS[hook])
        flags = 0 if cut else self.lab.flags
        device = pod_device(self.lab.maps, packet) if hook == "from_pod" else uplink_index()
        if self.driver and hook == "from_uplink":
            seen = self._run_driver(packet, device)
            if seen:
                return seen
            counting.begin(HOOKS[hook])
        run = self.lab.programs[hook].test_run(packet, context=_context(device), flags=flags)
        found = counting.moved(HOOKS[hook])
        assert len(found) == 1, f"counted {found}: once a packet is right"
        return Seen(run.retval, found[0], run.data)

    def _run_driver(self, packet: bytes, device: int) -> Seen | None:
        """What XDP made of a packet; None where it left it as it was, uncounted."""
        counting = self._counting
        assert counting
        counting.begin(Hook.XDP)
        taken = drive(self.lab.programs[XDP_PROGRAM], packet, device)
        found = counting.moved(Hook.XDP)
        assert len(found) == (taken is not None), f"counted {found}: once what is handled is right"
        if taken is None:
            return None
        self.by_driver += 1
        return Seen(taken.code, found[0], taken.packet)


@functools.cache
def _full_budget() -> bytes:
    return layout.IcmpBudget(0, 50).pack() * bpf.possible_cpus()


@functools.cache
def _context(device: int) -> bytes:
    return packet_context(device)


def load(
    path: str, settings: Mapping[str, str], node: NodeAddresses, maps: dict[str, bpf.Map]
) -> Lab:
    """The programs as these settings make them, over the maps of others."""
    known, _ = check_settings(settings)
    primary: dict[int, Address] = {
        family(Address(parse_address(one))): parse_address(one) for one in node.primary
    }
    cidrs = [parse_cidr(one) for one in node.pod_networks]
    made = Lab(path, maps=maps)
    made.load(datapath_config(known, probe_features(), cidrs), sizes=4096)
    made.primary(primary)
    return made


@contextmanager
def entered(lab: Lab) -> Iterator[None]:
    """Enters the lab's namespace, where FIB look-ups find its routes."""
    with inside(lab.path):
        yield
