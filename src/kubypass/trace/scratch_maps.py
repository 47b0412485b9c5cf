# SPDX-License-Identifier: Apache-2.0
"""Writes what an agent on the node would write: objects are planned, and the plan goes into maps of the trace's own."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from kubypass.datapath import layout
from kubypass.datapath.apply import apply_changes
from kubypass.datapath.local_addresses import (
    inside_entries,
    node_entries,
    primary_entry,
    uplink_entry,
)
from kubypass.datapath.mirror import read_capacity
from kubypass.datapath.synced_map import SyncedMap
from kubypass.datapath.tables import Tables
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address
from kubypass.model.constants import NETNS_UNKNOWN
from kubypass.model.host_port import is_pod
from kubypass.model.verdict import BackendList, LocalAddressKind
from kubypass.plan.conflicts import Rank, settle_all
from kubypass.plan.explain import PortExplanation, explain_host_port, explain_service_port
from kubypass.plan.host_ports import plan_host_ports, pod_rank
from kubypass.plan.items import Item
from kubypass.plan.services import plan_service
from kubypass.trace.node_view import NodeView
from kubypass.trace.scratch_network import UPLINK_NAME

_NO_MAC, _POD_MAC = bytes(6), bytes.fromhex("024b50000014")


class ScratchMaps:
    """The entries of one node's view, in the maps that `write` is given."""

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.problems = list(view.problems)
        self._items: dict[int, Item] = {}

    def write(self, maps: dict[str, Map], ifindex: int) -> None:
        """Makes the maps hold this view and nothing else. The node's pods are behind the device `ifindex`."""
        for name in ("services", "maglev", "local_addresses", "source_ranges"):
            keys = [key for key, _ in maps[name].items()]
            maps[name].delete_batch(b"".join(keys), len(keys))
        tables = Tables(read_capacity(maps))
        changes = tables.begin()
        for item in self._plan():
            problem = tables.put(item, changes)
            if problem:
                self.problems.append(problem)
        apply_changes(maps, changes)
        self._items = {entry.id: entry.item for entry in tables.entries.values()}
        maps["node_addresses"].update(*primary_entry(self.view.primary).popitem())
        SyncedMap(maps["inside"]).apply(inside_entries(self.view.inside))
        sources: dict[int, Address] = {v: self.view.primary[v] for v in self.view.masqueraded}
        SyncedMap(maps["uplinks"]).apply(uplink_entry(socket.if_nametoindex(UPLINK_NAME), sources))
        for key, value in self._local_addresses(ifindex).items():
            maps["local_addresses"].update(key, value)

    def _plan(self) -> Iterable[Item]:
        view = self.view
        node, settings = view.node, view.settings
        plans = [
            (key, Rank(one.created), plan_service(one, view.slices.get(key, ()), node, settings))
            for key, one in view.services.items()
        ]
        plans += [
            (key, pod_rank(pod), plan_host_ports(pod, node, settings))
            for key, pod in view.pods.items()
        ]

        def answer(address: Address) -> bool:
            return settings.node_ports.answer_on(address, node.addresses)

        for settled in settle_all(plans, node.local_addresses, answer).values():
            self.problems += settled.problems
            yield from settled.items

    def _local_addresses(self, ifindex: int) -> dict[bytes, bytes]:
        """Entries of the addresses on this node: its pods' and its own."""
        view, where = self.view, self.view.settings.node_ports.addresses
        with_node_ports = where.chosen(view.addresses, view.node.addresses)
        entries: dict[bytes, bytes] = {}
        pod = layout.LocalAddress(
            ifindex, _POD_MAC, _NO_MAC, LocalAddressKind.POD, NETNS_UNKNOWN
        ).pack()
        for slices in view.slices.values():
            for endpoint in (e for one in slices for e in one.endpoints):
                if endpoint.is_on(view.node.name):
                    entries[bytes(endpoint.address)] = pod
        for with_host_ports in view.pods.values():
            if with_host_ports.node == view.node.name:
                entries.update(dict.fromkeys(map(bytes, with_host_ports.addresses), pod))
        return {**entries, **node_entries(view.addresses, with_node_ports)}

    def explain_port(self, number: int, chosen: BackendList) -> PortExplanation | None:
        """Explains the service port with this identifier; None where there is none."""
        item = self._items.get(number)
        if item is None:
            return None
        key = (item.key.namespace, item.key.name)
        if is_pod(key):
            return explain_host_port(item, self.view.node)
        service, slices = self.view.services[key], self.view.slices.get(key, ())
        return explain_service_port(service, item.key, slices, self.view.node, chosen)
