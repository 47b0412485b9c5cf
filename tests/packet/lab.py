# SPDX-License-Identifier: Apache-2.0
"""The real programs on crafted packets, by test run: nothing is attached, and whole packets come back.

The lab is a network namespace with an uplink, a gateway and routes, so that FIB lookups have something to find.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scapy.packet import Packet

from kubypass.datapath import layout
from kubypass.datapath.config import datapath_config, pack_networks
from kubypass.datapath.counters import read_counts
from kubypass.datapath.loader import XDP_OBJECT, XDP_PROGRAM, load_programs
from kubypass.datapath.local_addresses import inside_entries, primary_entry
from kubypass.datapath.sizes import FLOW_MAPS, PASSAGES
from kubypass.datapath.synced_map import SyncedMap
from kubypass.kernel.bpf import Map
from kubypass.kernel.features import probe_features
from kubypass.kernel.netns import inside
from kubypass.kernel.program import Program, TestRun, packet_context
from kubypass.model.address import UNSPECIFIED, Address, family, link_local_address, parse_address
from kubypass.model.cidr import parse_cidr
from kubypass.model.constants import NETNS_UNKNOWN
from kubypass.model.constants import POD_DEVICES as SLOTS
from kubypass.model.verdict import (
    BackendState,
    FlowDirection,
    Hook,
    InsideReason,
    LocalAddressKind,
    ServiceFlag,
    Verdict,
)
from kubypass.settings.settings import Settings
from tests.packet.driver import as_uplink, drive
from tests.packet.map_entries import drive_devices, note_ports, pod_device
from tests.packet.packets import POD_MAC, V4, V6, VETH_MAC
from tests.packet.uplink import POD_DEVICES, uplink_index

PASS, SHOT, REDIRECT = 0, 2, 7
_ADDRESSED = ServiceFlag.CLUSTER_IP | ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


@dataclass
class Result:
    """What became of a packet."""

    code: int
    packet: bytes
    counted: Counter[tuple[Hook, Verdict]]
    driver_code: int = 0
    """What XDP returned, where it has handled it; the rest is as from_uplink would say it."""


CLUSTER = {
    "10.233.0.0/16": InsideReason.PODS,
    "192.168.1.0/24": InsideReason.NODE,
    "fd00:10:233::/48": InsideReason.PODS,
    "fd00:c0a8:1::/64": InsideReason.NODE,
}
"""The networks of pods and nodes: pods reach them with their own addresses."""


def config(**changes: Any) -> layout.Config:
    """The constants of the programs with default settings, on the lab's node; some of them changed."""
    made = datapath_config(Settings(), probe_features(), ())
    return made._replace(**{"node_netns_cookie": 1, "socket_lb_refuse": 1, **changes})


def native_networks() -> dict[str, Any]:
    """Constants of a cluster whose settings name its pods' networks, as most do."""
    pods = [parse_cidr(net) for net, why in CLUSTER.items() if why == InsideReason.PODS]
    return {"inside_network_count": len(pods), "inside_networks": pack_networks(pods)}


@dataclass
class Lab:
    """Loaded programs over maps of their own, and what was put into these."""

    path: str
    flags: int = 0
    """The flags of test runs, which say how packets' checksums come."""
    repeats: int = 0
    """How often each packet runs again, to find out what it costs."""
    driver: bool = False
    """Whether packets from the network pass XDP before they reach from_uplink."""
    costs: list[tuple[str, float]] = field(default_factory=list)
    """Program and ns, of the packets since the last reset."""
    maps: dict[str, Map] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _slots: Iterator[int] = field(default_factory=itertools.count)

    def load(self, constants: layout.Config, sizes: int = 256, flows: int = 4096) -> None:
        """Loads the objects; the others use the maps of the first."""
        self.programs = load_programs(
            ("pod", "host", XDP_OBJECT),
            self.maps,
            {
                "services": 4096,
                **dict.fromkeys(FLOW_MAPS, flows),
                **dict.fromkeys(("backends", "slots"), sizes),
                "maglev": 4096,
                "fragments": 1024,
                "passages": PASSAGES if constants.passages_a_cpu else 1,
            },
            lambda opened: opened.set_rodata(constants.pack()),
        )
        self.primary({who.version: parse_address(who.node) for who in (V4, V6)})
        self.put_inside(CLUSTER)
        self.reset()

    def put_inside(self, networks: Mapping[str, InsideReason]) -> None:
        """Pods reach these networks, and no others, with their own addresses."""
        entries = inside_entries({parse_cidr(one): why for one, why in networks.items()})
        SyncedMap(self.maps["inside"]).apply(entries)

    def primary(self, addresses: Mapping[int, Address], only: int = 0) -> None:
        """The node's primary addresses by family; it has no others of the families `only`."""
        self.maps["node_addresses"].update(*primary_entry(addresses, only).popitem())

    def reset(self) -> None:
        """Empty maps, but for what lives on the node."""
        self.costs.clear()
        self._ids, self._slots = itertools.count(1), itertools.count()
        self.clear()
        drive_devices(self.maps, uplink_index())
        for who in (V4, V6):
            self.local_address(who.node, LocalAddressKind.NODE_PORTS)
            self.local_address(who.pod, LocalAddressKind.POD, POD_DEVICES[0])
            self.local_address(who.second_pod, LocalAddressKind.POD, POD_DEVICES[1])

    def clear(self) -> None:
        """Empty maps."""
        connections = (*FLOW_MAPS, "fragments", "queued_fragments", "affinities", "snat_failures")
        for name in ("services", "maglev", "local_addresses", "source_ranges", *connections):
            used = [key for key, _ in self.maps[name].items()]
            self.maps[name].delete_batch(b"".join(used), len(used))
        backends = self.maps["backends"]
        count = backends.info.max_entries
        keys = struct.pack(f"<{count}I", *range(count))
        backends.update_batch(keys, bytes(layout.BACKEND_SIZE * count), count)

    def local_address(self, address: str, kind: LocalAddressKind, ifindex: int = 0) -> None:
        """An address that lives on the node."""
        pod, veth = (bytes.fromhex(mac.replace(":", "")) for mac in (POD_MAC, VETH_MAC))
        value = layout.LocalAddress(ifindex, pod, veth, kind, NETNS_UNKNOWN)
        key = parse_address(address)
        self.maps["local_addresses"].update(key, value.pack())
        if ifindex:
            slot = struct.pack("=I", ifindex % SLOTS)
            own = link_local_address(POD_MAC)
            known = layout.PodDevice.unpack(self.maps["pod_devices"].lookup(slot) or b"")
            new = layout.PodDevice(ifindex, key, key, own)
            same = known if known.ifindex == ifindex else new
            both = same._replace(ipv4=key) if family(key) == 4 else same._replace(ipv6=key)
            self.maps["pod_devices"].update(slot, both.pack())

    def service(
        self,
        address: str,
        port: int,
        backends: list[str],
        *,
        local: list[str] | None = None,
        protocol: str = "TCP",
        flags: int = ServiceFlag.CLUSTER_IP,
        target: int = 8080,
        affinity_s: int = 0,
    ) -> list[int]:
        """A frontend with its backends (the Cluster list, and the Local one); returns their identifiers, in order.

        A NodePort is given any address of its family. The flag HAS_ENDPOINTS comes by itself with backends.
        """
        number, of_node = next(self._ids), local or []
        ids: dict[str, int] = {}
        for backend in [*backends, *of_node]:
            if backend not in ids:
                ids[backend] = next(self._ids)
                lists = (backend in backends) | (backend in of_node) << 1
                value = layout.Backend(
                    parse_address(backend),
                    number,
                    target,
                    NUMBERS[protocol],
                    BackendState.ACTIVE,
                    lists,
                    1,
                )
                self.maps["backends"].update(struct.pack("<I", ids[backend]), value.pack())
        slots = [ids[backend] for backend in [*backends, *of_node]]
        indices = [next(self._slots) for _ in slots] or [0]
        for index, slot in zip(indices, slots, strict=False):
            self.maps["slots"].update(struct.pack("<I", index), struct.pack("<I", slot))
        if slots:
            flags |= ServiceFlag.HAS_ENDPOINTS
        key = parse_address(address)
        if flags & (ServiceFlag.NODE_PORT | ServiceFlag.HOST_PORT):
            key = UNSPECIFIED[family(key)]
        frontend = layout.TransportAddress(key, port, NUMBERS[protocol]).pack()
        counts = (len(backends), len(of_node))
        service = layout.Service(number, indices[0], *counts, flags, affinity_s, 0, 0)
        self.maps["services"].update(frontend, service.pack())
        if kinds := flags & _ADDRESSED:
            none = layout.Service(0, 0, 0, 0, kinds | ServiceFlag.ADDRESS, 0, 0, 0)
            self.maps["services"].update(layout.TransportAddress(key, 0, 0).pack(), none.pack())
        return list(ids.values())

    def source_range(self, address: str, port: int, cidr: str, protocol: str = "TCP") -> None:
        """Clients of a frontend with the flag SOURCE_RANGES."""
        raw = self.maps["services"].lookup(
            layout.TransportAddress(parse_address(address), port, NUMBERS[protocol]).pack()
        )
        assert raw
        found = parse_cidr(cidr)
        key = layout.SourceRange(32 + found.bits, layout.Service.unpack(raw).id, found.network)
        self.maps["source_ranges"].update(key.pack(), bytes(4))

    def relist(self, *numbers: int) -> None:
        """The lists of the lab's first service contain these backends, of as many as before."""
        for index, number in enumerate(numbers):
            self.maps["slots"].update(struct.pack("<I", index), struct.pack("<I", number))

    def remove_backend(self, number: int) -> None:
        """The endpoint is gone."""
        self.maps["backends"].update(struct.pack("<I", number), bytes(layout.BACKEND_SIZE))

    def empty_service(self, address: str, port: int, protocol: str = "TCP") -> None:
        """The service stays, its backends do not."""
        key = layout.TransportAddress(parse_address(address), port, NUMBERS[protocol]).pack()
        raw = self.maps["services"].lookup(key)
        assert raw
        value = layout.Service.unpack(raw)._replace(backends=0, flags=ServiceFlag.CLUSTER_IP)
        self.maps["services"].update(key, value.pack())

    def flows(self) -> dict[layout.Tuple, layout.Flow]:
        """All tracking entries; of a key that is in both maps, the one that counts."""
        items = [item for name in reversed(FLOW_MAPS) for item in self.maps[name].items()]
        return {layout.Tuple.unpack(key): layout.Flow.unpack(value) for key, value in items}

    def put_flow(self, key: layout.Tuple, flow: layout.Flow) -> None:
        """Writes an entry where it is now, or where a new one begins."""
        confirmed = self.maps["flows"].lookup(key.pack()) is not None
        self.maps["flows" if confirmed else "transient_flows"].update(key.pack(), flow.pack())
        note_ports(self.maps)

    def forget_flows(self, *, replies: bool = True) -> None:
        """Entries are evicted: all, or only those of the clients' direction."""
        for key, flow in self.flows().items():
            if replies or flow.direction == FlowDirection.FORWARD:
                for name in FLOW_MAPS:
                    self.maps[name].delete_batch(key.pack(), 1)

    def expire_flows(self) -> None:
        """Time passes."""
        for key, flow in self.flows().items():
            self.put_flow(key, flow._replace(expires_ns=1))

    def run(
        self, program: str, packet: Packet | bytes, *, segment_bytes: int = 0, device: int = 0
    ) -> Result:
        """One packet through one program; cut into segments later (GSO).

        It comes from its sender's pod, or another `device`; in other programs it comes (or leaves) by the uplink.
        """
        before = self.counts()
        raw = bytes(packet)
        device = device or (pod_device(self.maps, raw) if program == "from_pod" else uplink_index())
        context = packet_context(device, segment_bytes=segment_bytes)
        with inside(self.path):
            if self.driver and program == "from_uplink" and not segment_bytes:
                taken = drive(self.programs[XDP_PROGRAM], raw, device)
                if taken:
                    counted = self.counts()
                    counted.subtract(before)
                    return Result(taken.code, taken.packet, as_uplink(+counted), taken.own_code)
                assert self.counts() == before, "what passes is from_uplink's to count"
            run = self._run(program, bytes(packet), context)
            counted = self.counts()
            if self.repeats:
                again = [self._run(program, bytes(packet), context) for _ in range(self.repeats)]
                self.costs.append((program, min(one.duration_ns for one in again)))
        counted.subtract(before)
        return Result(run.retval, run.data, +counted)

    def _run(self, program: str, packet: bytes, context: bytes) -> TestRun:
        return self.programs[program].test_run(packet, context=context, flags=self.flags)

    def counts(self) -> Counter[tuple[Hook, Verdict]]:
        """What all programs have counted."""
        return Counter({(c.hook, c.verdict): c.packets for c in read_counts(self.maps["metrics"])})
