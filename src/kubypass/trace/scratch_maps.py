# SPDX-License-Identifier: Apache-2.0
"""Objects -> plan -> maps of our own: what an agent on the node would have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kubypass.datapath import layout
from kubypass.datapath.apply import apply_changes
from kubypass.datapath.local_addresses import node_entries
from kubypass.datapath.mirror import read_capacity
from kubypass.datapath.tables import Tables
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address
from kubypass.model.constants import NETNS_UNKNOWN
from kubypass.model.endpoint import EndpointSlice
from kubypass.model.host_port import HostPortPod, is_pod
from kubypass.model.problem import Problem
from kubypass.model.service import Service, ServiceKey
from kubypass.model.verdict import BackendList, LocalAddressKind
from kubypass.plan.conflicts import Rank, settle_all
from kubypass.plan.explain import Explained, explain, explain_host_port
from kubypass.plan.host_ports import plan_host_ports, pod_rank
from kubypass.plan.items import Item, PlanNode
from kubypass.plan.services import plan_service
from kubypass.settings.settings import Settings

_NO_MAC, _POD_MAC = bytes(6), bytes.fromhex("024b50000014")


@dataclass(frozen=True, slots=True)
class Objects:
    """What is known of a cluster, as seen from one node."""

    services: Mapping[ServiceKey, Service]
    slices: Mapping[ServiceKey, tuple[EndpointSlice, ...]]
    node: PlanNode
    addresses: tuple[Address, ...]
    """All of the node's own."""
    settings: Settings
    config: layout.Config
    problems: tuple[Problem, ...] = ()
    pods: Mapping[ServiceKey, HostPortPod] = field(default_factory=dict)
    """Those with ports of their node."""


class Cluster:
    """Objects, in the maps that `write` was given."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.problems = list(objects.problems)
        self._items: dict[int, Item] = {}

    def write(self, maps: dict[str, Map], ifindex: int) -> None:
        """Makes the maps hold just this cluster; its pods on the node are behind the device `ifindex`."""
        for name in ("services", "local_addresses", "source_ranges"):
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
        for key, value in self._endpoints(ifindex).items():
            maps["local_addresses"].update(key, value)

    def _plan(self) -> Iterable[Item]:
        found = self.objects
        node, settings = found.node, found.settings
        plans = [
            (key, Rank(one.created), plan_service(one, found.slices.get(key, ()), node, settings))
            for key, one in found.services.items()
        ]
        plans += [
            (key, pod_rank(pod), plan_host_ports(pod, node, settings))
            for key, pod in found.pods.items()
        ]

        def answer(address: Address) -> bool:
            return settings.node_ports.answer_on(address, node.addresses)

        for settled in settle_all(plans, node.local_addresses, answer).values():
            self.problems += settled.problems
            yield from settled.items

    def _endpoints(self, ifindex: int) -> dict[bytes, bytes]:
        found, where = self.objects, self.objects.settings.node_ports.addresses
        answers = where.chosen(found.addresses, found.node.addresses)
        entries: dict[bytes, bytes] = {}
        pod = layout.LocalAddress(
            ifindex, _POD_MAC, _NO_MAC, LocalAddressKind.POD, NETNS_UNKNOWN
        ).pack()
        for slices in found.slices.values():
            for endpoint in (e for one in slices for e in one.endpoints):
                if endpoint.is_on(found.node.name):
                    entries[bytes(endpoint.address)] = pod
        for with_ports in found.pods.values():
            if with_ports.node == found.node.name:
                entries.update(dict.fromkeys(map(bytes, with_ports.addresses), pod))
        return {**entries, **node_entries(found.addresses, answers)}

    def explain(self, number: int, chosen: BackendList) -> Explained | None:
        """The service port with this identifier."""
        item = self._items.get(number)
        if item is None:
            return None
        key = (item.key.namespace, item.key.name)
        if is_pod(key):
            return explain_host_port(item, self.objects.node)
        service = self.objects.services[key]
        slices = self.objects.slices.get(key, ())
        return explain(service, item.key, slices, self.objects.node, chosen)
