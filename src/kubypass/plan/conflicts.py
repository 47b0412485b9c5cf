# SPDX-License-Identifier: Apache-2.0
"""Two that want the same frontend: one of them has it, the other one is told.

Services come before pods with host ports, and pods before those that are being deleted. Of two alike the older one
has the frontend: earlier created, then first by namespace and name; within a service, the item that comes first. A
service without a creation time (hand-written manifests) counts as older than any with one.

The same goes for a port on one address of the node (an external address, a host port) against the same port on every
address (a NodePort, a host port): the older one has that address, and a younger NodePort keeps the others. On an
address on which NodePorts do not answer, a NodePort is nobody's rival.

The only state of planning: who claims what. Services are added and removed one by one, and the outcome does not depend
on the order in which that happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from kubypass.model.address import UNSPECIFIED, Address, family, format_address_port, is_loopback
from kubypass.model.host_port import is_pod
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.items import Item, PlannedFrontend, ServicePlan
from kubypass.plan.shared_addresses import SharedAddresses, title

if TYPE_CHECKING:
    from kubypass.model.service import ServiceKey

_Place = bytes
"""Address, port and protocol of a frontend."""


class Precedence(IntEnum):
    """Who comes first, whatever the age."""

    SERVICE = 0
    POD = 1
    TERMINATING_POD = 2


class Rank(NamedTuple):
    """The smallest has the frontend; names decide between equal ones."""

    created: str = ""
    precedence: Precedence = Precedence.SERVICE

    def of(self, key: ServiceKey) -> _FullRank:
        """What decides for the service or pod with this name."""
        return (self.precedence, self.created, *key)


_FullRank = tuple[int, str, str, str]


def _everywhere(_: Address) -> bool:
    return True


class Claims:
    """Who claims which frontend."""

    def __init__(
        self,
        addresses: Iterable[Address] = (),
        node_ports_answer: Callable[[Address], bool] = _everywhere,
    ) -> None:
        """`addresses` are the node's own; the other one says on which of them, and of loopback, NodePorts answer."""
        self._ranks: dict[ServiceKey, _FullRank] = {}
        self._places: dict[ServiceKey, tuple[_Place, ...]] = {}
        self._owner: dict[_Place, ServiceKey] = {}
        self._rivals: dict[_Place, set[ServiceKey]] = {}
        self._contested: dict[ServiceKey, int] = {}
        self._local: frozenset[Address] = frozenset(addresses)
        self._node_ports_answer = node_ports_answer
        self._on_one: dict[_Place, set[_Place]] = {}
        """Place on every address of the node -> places with the same port on one of them."""
        self._shared = SharedAddresses()

    def move(self, addresses: Iterable[Address]) -> None:
        """The node has these addresses now; everything has to be settled anew."""
        self._local = frozenset(addresses)
        self._on_one = {}
        for place in filter(self._is_on_one, self._owner):
            self._on_one.setdefault(_on_every(place), set()).add(place)

    def replace(
        self,
        key: ServiceKey,
        plan: ServicePlan | None,
        rank: Rank = Rank(),  # noqa: B008 (immutable)
    ) -> set[ServiceKey]:
        """Put a service's claims (None: it is gone) in place; other services to settle anew."""
        touched = self._shared.replace(key, plan)
        old, new = self._places.get(key, ()), _places(plan) if plan else ()
        full, crossed = rank.of(key), bool(self._on_one)
        if old != new or (plan is not None and self._ranks.get(key) != full):
            for place in old:
                self._release(place, key, touched)
            self._ranks.pop(key, None)
            self._places.pop(key, None)
            if plan is not None:
                self._ranks[key] = full
                self._places[key] = new
                for place in new:
                    self._claim(place, key, touched)
            if crossed or self._on_one:
                for place in (*old, *new):
                    touched |= self._across(place)
        touched.discard(key)
        return touched

    def settle(self, key: ServiceKey, plan: ServicePlan) -> ServicePlan:
        """The plan without the frontends that are another's, and a problem for each of those."""
        problems = [*plan.problems, *self._shared.problems(key, plan)]
        taken: set[_Place] = set()
        items: list[Item] = []
        clean = key not in self._contested and not self._on_one
        for item in plan.items:
            kept: list[PlannedFrontend] = []
            lost: list[PlannedFrontend] = []
            for frontend in item.frontends:
                place = _place(frontend)
                owner = key if clean else self._holder(place, key)
                if owner == key and place not in taken:
                    taken.add(place)
                    kept.append(frontend)
                    problems += [] if clean else self._losses(place, key)
                else:
                    problems.append(_problem(key, place, owner))
                    lost += [frontend] if frontend.flags & ServiceFlag.CLUSTER_IP else []
            same = len(kept) == len(item.frontends)
            items.append(item if same else replace(item, frontends=tuple(kept), lost=tuple(lost)))
        if len(problems) == len(plan.problems):
            return plan
        return ServicePlan(tuple(items), tuple(problems))

    def _holder(self, place: _Place, key: ServiceKey) -> ServiceKey:
        """Who has a place that `key` claims: its owner, or an older one that has the port on every address."""
        owner = self._owner.get(place, key)
        if place in self._on_one.get(every := _on_every(place), ()):
            other = self._owner.get(every)
            if other is not None and self._precedes(other, owner) and self._serves(other, place):
                return other
        return owner

    def _precedes(self, key: ServiceKey, other: ServiceKey) -> bool:
        return self._ranks[key] < self._ranks[other]

    def _serves(self, key: ServiceKey, place: _Place) -> bool:
        """Whether `key`, which has the port on every address of the node, answers on this one; pods always do."""
        return is_pod(key) or self._node_ports_answer(Address(place[:16]))

    def _losses(self, place: _Place, key: ServiceKey) -> Iterable[Problem]:
        """Addresses of the node that `key`, which has a port on every one, has not: older ones have them."""
        for one in sorted(self._on_one.get(place, ())):
            other = self._owner[one]
            if self._precedes(other, key) and self._serves(key, one):
                yield _problem(key, one, other)

    def _across(self, place: _Place) -> set[ServiceKey]:
        """Who claims the same port on one of the node's addresses, or has it on every one."""
        if place[:16] in UNSPECIFIED.values():
            ones = self._on_one.get(place, ())
            return {key for one in ones for key in self._rivals.get(one) or (self._owner[one],)}
        if not self._is_on_one(place):
            return set()
        owner = self._owner.get(_on_every(place))
        return set() if owner is None else {owner}

    def _is_on_one(self, place: _Place) -> bool:
        address = Address(place[:16])
        return address in self._local or is_loopback(address)

    def _claim(self, place: _Place, key: ServiceKey, touched: set[ServiceKey]) -> None:
        owner = self._owner.setdefault(place, key)
        if owner == key:
            if self._is_on_one(place):
                self._on_one.setdefault(_on_every(place), set()).add(place)
            return
        rivals = self._rivals.get(place)
        if rivals is None:
            rivals = self._rivals[place] = {owner}
            self._count(owner, 1)
        rivals.add(key)
        self._count(key, 1)
        self._choose(place, rivals, touched)

    def _release(self, place: _Place, key: ServiceKey, touched: set[ServiceKey]) -> None:
        rivals = self._rivals.get(place)
        if rivals is None:
            del self._owner[place]
            if self._is_on_one(place):
                every = _on_every(place)
                self._on_one[every].discard(place)
                if not self._on_one[every]:
                    del self._on_one[every]
            return
        rivals.discard(key)
        self._count(key, -1)
        self._choose(place, rivals, touched)
        if len(rivals) == 1:
            self._count(next(iter(rivals)), -1)
            del self._rivals[place]

    def _choose(self, place: _Place, rivals: set[ServiceKey], touched: set[ServiceKey]) -> None:
        """Settle the owner; all that claim the place name it in their problems."""
        owner = min(rivals, key=self._ranks.__getitem__)
        if owner != self._owner[place]:
            self._owner[place] = owner
            touched |= rivals

    def _count(self, key: ServiceKey, change: int) -> None:
        """How many of the service's places are contested."""
        count = self._contested.get(key, 0) + change
        if count:
            self._contested[key] = count
        else:
            self._contested.pop(key, None)


def settle_all(
    plans: Iterable[tuple[ServiceKey, Rank, ServicePlan]],
    addresses: Iterable[Address] = (),
    node_ports_answer: Callable[[Address], bool] = _everywhere,
) -> dict[ServiceKey, ServicePlan]:
    """All services at once: the same answer as one by one."""
    claims = Claims(addresses, node_ports_answer)
    known = {key: (rank, plan) for key, rank, plan in plans}
    for key, (rank, plan) in known.items():
        claims.replace(key, plan, rank)
    return {key: claims.settle(key, plan) for key, (_, plan) in known.items()}


def _places(plan: ServicePlan) -> tuple[_Place, ...]:
    found = dict.fromkeys(_place(frontend) for item in plan.items for frontend in item.frontends)
    return tuple(found)


def _place(frontend: PlannedFrontend) -> _Place:
    return frontend.address + (frontend.port << 8 | frontend.protocol).to_bytes(3, "big")


def _on_every(place: _Place) -> _Place:
    """The same port on every address of the node."""
    return UNSPECIFIED[family(Address(place[:16]))] + place[16:]


def _problem(key: ServiceKey, place: _Place, owner: ServiceKey) -> Problem:
    address, port, protocol = Address(place[:16]), int.from_bytes(place[16:18]), Protocol(place[18])
    name = (
        f"node port {port}/{protocol.name}"
        if address in UNSPECIFIED.values()
        else format_address_port(address, port, protocol)
    )
    if key == owner:
        message = f"has {name} in two of its ports; the first one gets it; remove one"
    else:
        message = (
            f"wants {name}, which is {title(owner)}'s, the one that comes first; "
            "it does not get it; give one of them another"
        )
    subject = title(key)
    return Problem(subject[0].upper() + subject[1:], message)
