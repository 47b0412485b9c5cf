# SPDX-License-Identifier: Apache-2.0
"""Two items that want the same frontend: the older service has it, the other one is told.

Older is earlier created, then first by namespace and name; within a service, the item that comes
first. A service without a creation time (hand-written manifests) counts as older than any with
one. The only state of planning: who claims what. Services are added and removed one by one, and
the outcome does not depend on the order in which that happens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from kubypass.model.address import UNSPECIFIED, format_endpoint
from kubypass.model.problem import Problem
from kubypass.plan.items import Item, PlannedFrontend, ServicePlan

if TYPE_CHECKING:
    from kubypass.model.service import ServiceKey

_Place = bytes
"""Address, port and protocol of a frontend."""

_Rank = tuple[str, str, str]
"""Created, namespace, name: the smallest has the frontend."""


class Claims:
    """Who claims which frontend."""

    def __init__(self) -> None:
        self._ranks: dict[ServiceKey, _Rank] = {}
        self._places: dict[ServiceKey, tuple[_Place, ...]] = {}
        self._owner: dict[_Place, ServiceKey] = {}
        self._rivals: dict[_Place, set[ServiceKey]] = {}
        self._contested: dict[ServiceKey, int] = {}

    def replace(
        self, key: ServiceKey, plan: ServicePlan | None, created: str = ""
    ) -> set[ServiceKey]:
        """Put a service's claims (None: it is gone) in place; other services to settle anew."""
        places = _places(plan) if plan else ()
        rank = (created, *key)
        if self._places.get(key) == places and self._ranks.get(key) == rank:
            return set()
        touched: set[ServiceKey] = set()
        for place in self._places.pop(key, ()):
            self._release(place, key, touched)
        self._ranks.pop(key, None)
        if plan is not None:
            self._ranks[key] = rank
            self._places[key] = places
            for place in places:
                self._claim(place, key, touched)
        touched.discard(key)
        return touched

    def settle(self, key: ServiceKey, plan: ServicePlan) -> ServicePlan:
        """The plan without the frontends that are another's, and a problem for each of those."""
        problems = list(plan.problems)
        taken: set[_Place] = set()
        items: list[Item] = []
        clean = key not in self._contested
        for item in plan.items:
            kept: list[PlannedFrontend] = []
            for frontend in item.frontends:
                place = _place(frontend)
                owner = key if clean else self._owner.get(place, key)
                if owner == key and place not in taken:
                    taken.add(place)
                    kept.append(frontend)
                else:
                    problems.append(_problem(item, frontend, owner))
            same = len(kept) == len(item.frontends)
            items.append(item if same else replace(item, frontends=tuple(kept)))
        if len(problems) == len(plan.problems):
            return plan
        return ServicePlan(tuple(items), tuple(problems))

    def _claim(self, place: _Place, key: ServiceKey, touched: set[ServiceKey]) -> None:
        owner = self._owner.setdefault(place, key)
        if owner == key:
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
    plans: Iterable[tuple[ServiceKey, str, ServicePlan]],
) -> dict[ServiceKey, ServicePlan]:
    """All services at once, each with its creation time: the same answer as one by one."""
    claims = Claims()
    known = {key: (created, plan) for key, created, plan in plans}
    for key, (created, plan) in known.items():
        claims.replace(key, plan, created)
    return {key: claims.settle(key, plan) for key, (_, plan) in known.items()}


def _places(plan: ServicePlan) -> tuple[_Place, ...]:
    found = dict.fromkeys(_place(frontend) for item in plan.items for frontend in item.frontends)
    return tuple(found)


def _place(frontend: PlannedFrontend) -> _Place:
    return frontend.address + (frontend.port << 8 | frontend.protocol).to_bytes(3, "big")


def _problem(item: Item, frontend: PlannedFrontend, owner: ServiceKey) -> Problem:
    key = item.key
    name = f"{key.namespace}/{key.name}"
    is_node_port = frontend.address in UNSPECIFIED.values()
    place = (
        f"node port {frontend.port}/{frontend.protocol.name}"
        if is_node_port
        else format_endpoint(frontend.address, frontend.port, frontend.protocol)
    )
    if (key.namespace, key.name) == owner:
        message = f"has {place} in two of its ports; the first one gets it; remove one"
    else:
        message = (
            f"wants {place}, which is the older service {owner[0]}/{owner[1]}'s; "
            "it does not get it; give one of them another"
        )
    return Problem(f"Service {name}", message)
