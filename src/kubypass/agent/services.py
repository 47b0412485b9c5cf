# SPDX-License-Identifier: Apache-2.0
"""Plans services that changed and brings the maps up to date: snapshot -> plan -> tables -> maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kubypass.datapath.apply import apply_changes
from kubypass.datapath.changes import Changes
from kubypass.datapath.earlier_owners import EarlierOwners
from kubypass.datapath.mirror import Mirror, read_capacity, read_mirror
from kubypass.datapath.tables import Tables
from kubypass.kernel.bpf import Map
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import Address
from kubypass.model.host_port import is_pod
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.model.verdict import BackendList
from kubypass.plan.conflicts import Claims, Rank
from kubypass.plan.explain import PortExplanation, explain_host_port, explain_service_port
from kubypass.plan.host_ports import plan_host_ports, pod_rank
from kubypass.plan.items import ItemKey, PlanNode, ServicePlan
from kubypass.plan.services import plan_service
from kubypass.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Result:
    """What one pass did. Planning, which includes identifiers, and the kernel are in seconds."""

    services: int
    writes: int
    plan_s: float
    kernel_s: float


class Services:
    """The services of the cluster in the maps of this node."""

    def __init__(
        self,
        snapshot: Snapshot,
        node: PlanNode,
        settings: Settings,
        maps: dict[str, Map],
        before_write: Callable[[Changes, Mapping[bytes, bytes]], None],
    ) -> None:
        """Before each write, `before_write` gets the changes, and the entries of the map `services` as they are."""
        self._snapshot = snapshot
        self._node = node
        self._settings = settings
        self._maps = maps
        self._before_write = before_write
        self._claims = Claims(node.local_addresses, self._node_ports_answer)
        self._items: dict[ServiceKey, tuple[ItemKey, ...]] = {}
        self._problems: dict[ServiceKey, tuple[Problem, ...]] = {}
        self._mirror: Mirror = read_mirror(maps, None)
        self._tables = self._adopt()
        self._uncertain = False
        """Whether a pass failed, so that tables and maps may differ."""
        self._adopted = False

    def _adopt(self) -> Tables:
        """Tables that match the maps, which an earlier agent or somebody else has written."""
        tables = Tables(read_capacity(self._maps))
        tables.adopt(self._mirror.contents())
        return tables

    @property
    def count(self) -> tuple[int, int, int]:
        """The numbers of services, frontends and backends in the maps."""
        entries = self._tables.entries.values()
        frontends = sum(len(entry.item.frontends) for entry in entries)
        services = sum(1 for key in self._items if not is_pod(key))
        return services, frontends, sum(len(entry.backend_ids) for entry in entries)

    @property
    def with_maglev(self) -> tuple[int, int]:
        """How many service ports select by a Maglev table, and for how many more there is no room."""
        entries = self._tables.entries.values()
        having = sum(1 for entry in entries if entry.item.maglev)
        return having, len(self._tables.without_table)

    def problems(self) -> list[Problem]:
        """What is wrong with the services as they are now."""
        return [problem for some in dict(self._problems).values() for problem in some]

    @property
    def in_use(self) -> dict[str, int]:
        """Entries in use by map."""
        return {**self._tables.in_use, "source_ranges": len(self._mirror.source_ranges)}

    def affinities(self) -> dict[int, int]:
        """Seconds of session affinity by service identifier, where a service has it."""
        entries = self._tables.entries.values()
        return {entry.id: entry.item.affinity_s for entry in entries if entry.item.affinity_s}

    def names(self) -> dict[int, ItemKey]:
        """What each service identifier in the maps is for."""
        return {entry.id: key for key, entry in dict(self._tables.entries).items()}

    def explain(self, number: int, chosen: BackendList) -> PortExplanation | None:
        """Why each endpoint of the service port with this identifier is in the list, or is not."""
        entries = self._tables.entries
        entry = next((entry for entry in dict(entries).values() if entry.id == number), None)
        if entry is None:
            return None
        key = (entry.item.key.namespace, entry.item.key.name)
        if is_pod(key):
            return explain_host_port(entry.item, self._node)
        service = self._snapshot.services.get(key)
        if service is None:
            return None
        slices = self._snapshot.slices.get(key, ())
        return explain_service_port(service, entry.item.key, slices, self._node, chosen)

    def move(self, node: PlanNode) -> bool:
        """Takes in the node as it is now; returns whether everything has to be planned again."""
        changed, self._node = node != self._node, node
        if changed:
            self._claims.set_node_addresses(node.local_addresses)
        return changed

    def check(self) -> Result:
        """Plans everything. Where somebody else has written to the maps, it adopts them as after a start."""
        found = read_mirror(self._maps, None if self._uncertain else self._mirror)
        if found != self._mirror or self._uncertain:
            self._mirror = found
            self._tables = self._adopt()
        return self.sync_all()

    def sync_all(self) -> Result:
        """Plans everything. The first time, entries that no service needs are removed from the maps."""
        snapshot = self._snapshot
        everything = snapshot.services.keys() | snapshot.pods.keys() | self._items.keys()
        done = self._sync(everything, everything=True)
        self._uncertain = False
        return done

    def sync(self, dirty: Iterable[ServiceKey]) -> Result:
        """Plans these services again, and the services that share a frontend with them."""
        return self.check() if self._uncertain else self._sync(set(dirty), everything=False)

    def _sync(self, dirty: set[ServiceKey], *, everything: bool) -> Result:
        started = time.perf_counter()
        certain, self._uncertain = not self._uncertain, True  # until all is written
        plans = {key: self._plan(key) for key in dirty}
        touched: set[ServiceKey] = set()
        for key, plan in plans.items():
            touched |= self._claims.replace(key, plan, self._rank(key))
        if not self._adopted:
            self._claims.adopt(EarlierOwners(self._mirror.contents(), plans))
            self._adopted = True
        for key in touched - plans.keys():
            plans[key] = self._plan(key)
        changes = self._tables.begin()
        for key, plan in plans.items():
            wanted = self._claims.settle(key, plan) if plan else None
            problems = list(wanted.problems) if wanted else []
            keys = []
            for item in wanted.items if wanted else ():
                problem = self._tables.put(item, changes)
                keys.append(item.key)
                if problem:
                    problems.append(problem)
            for gone in set(self._items.get(key, ())) - set(keys):
                self._tables.remove(gone, changes)
            self._remember(key, tuple(keys), problems)
        self._claims.commit()
        if everything:
            self._tables.finish_adoption(changes)
        self._before_write(changes, self._mirror.services)
        planned = time.perf_counter()
        writes = apply_changes(self._maps, changes) if changes else 0
        self._mirror.note(changes)
        self._uncertain = not certain
        done = time.perf_counter()
        return Result(len(plans), writes, planned - started, done - planned)

    def _plan(self, key: ServiceKey) -> ServicePlan | None:
        snapshot = self._snapshot
        if (pod := snapshot.pods.get(key)) is not None:
            return plan_host_ports(pod, self._node, self._settings)
        service = snapshot.services.get(key)
        if service is None:
            return None
        return plan_service(service, snapshot.slices.get(key, ()), self._node, self._settings)

    def _node_ports_answer(self, address: Address) -> bool:
        return self._settings.node_ports.answer_on(address, self._node.addresses)

    def _rank(self, key: ServiceKey) -> Rank:
        if (pod := self._snapshot.pods.get(key)) is not None:
            return pod_rank(pod)
        service = self._snapshot.services.get(key)
        return Rank(service.created if service else "")

    def _remember(
        self, key: ServiceKey, items: tuple[ItemKey, ...], problems: list[Problem]
    ) -> None:
        if items:
            self._items[key] = items
        else:
            self._items.pop(key, None)
        if problems:
            self._problems[key] = tuple(problems)
        else:
            self._problems.pop(key, None)
