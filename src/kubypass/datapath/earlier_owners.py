# SPDX-License-Identifier: Apache-2.0
"""Pure: which service had a frontend before a restart, told by what the maps hold.

The maps know services by number, not by name. A service is told by its other frontends, such as its ClusterIP, and by
its backends: those have the number that the frontend has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from kubypass.datapath import layout
from kubypass.datapath.adoption import Contents, backends_of
from kubypass.datapath.entries import frontend_key
from kubypass.model.address import AddressPort
from kubypass.model.verdict import ServiceFlag
from kubypass.plan import frontend_keys

if TYPE_CHECKING:
    from kubypass.model.service import ServiceKey
    from kubypass.plan.items import Item, PlannedFrontend, ServicePlan

_UNLIKE = (0, 0)


class EarlierOwners:
    """Answers who had a frontend, for services as they are planned now."""

    def __init__(self, contents: Contents, plans: Mapping[ServiceKey, ServicePlan | None]) -> None:
        self._contents = contents
        self._plans = plans

    def __call__(
        self, frontend: frontend_keys.FrontendKey, claimants: Iterable[ServiceKey]
    ) -> ServiceKey | None:
        """The claimant that had the frontend; None if nobody had it, or if that cannot be told."""
        likeness = sorted(((self._likeness(frontend, key), key) for key in claimants), reverse=True)
        best = likeness[0][0] if likeness else _UNLIKE
        alike = [key for found, key in likeness if found == best]
        return alike[0] if best != _UNLIKE and len(alike) == 1 else None

    def _likeness(self, frontend: frontend_keys.FrontendKey, key: ServiceKey) -> tuple[int, int]:
        """How many other frontends, then how many backends, the service shares with the one in the maps.

        Two services may have the same backends, but only one has all the frontends beside them.
        """
        best = _UNLIKE
        for item, planned in self._with(frontend, key):
            if number := self._number(planned):
                others = sum(
                    self._number(one) == number for one in item.frontends if one != planned
                )
                known: set[AddressPort] = self._backends.get(number, set())
                shared = sum((one.address, one.port) in known for one in item.backends)
                best = max(best, (others, shared))
        return best

    def _with(
        self, frontend: frontend_keys.FrontendKey, key: ServiceKey
    ) -> Iterator[tuple[Item, PlannedFrontend]]:
        """The service's items that claim the frontend."""
        plan = self._plans.get(key)
        for item in plan.items if plan else ():
            for planned in item.frontends:
                if frontend_keys.frontend_key(planned) == frontend:
                    yield item, planned

    def _number(self, frontend: PlannedFrontend) -> int:
        """The number of the service that has the frontend in the maps; 0 if there is none."""
        raw = self._contents.services.get(frontend_key(frontend))
        found = layout.Service.unpack(raw) if raw else None
        return found.id if found and not found.flags & ServiceFlag.ADDRESS else 0

    @cached_property
    def _backends(self) -> dict[int, set[AddressPort]]:
        """Backends in the maps by the number of their service."""
        found: dict[int, set[AddressPort]] = {}
        for service, where in backends_of(self._contents.backends):
            found.setdefault(service, set()).add(where)
        return found
