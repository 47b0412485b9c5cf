# SPDX-License-Identifier: Apache-2.0
"""Finds external addresses that are another service's ClusterIP. Both are served, each on its ports, and reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubypass.model.address import Address, format_address
from kubypass.model.problem import Problem
from kubypass.model.verdict import ServiceFlag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubypass.model.service import ServiceKey
    from kubypass.plan.items import ServicePlan

_CLUSTER_IP = int(ServiceFlag.CLUSTER_IP)
_EXTERNAL = int(ServiceFlag.EXTERNAL_IP | ServiceFlag.LOAD_BALANCER)
_Users = dict[Address, tuple["ServiceKey", ...]]
_Uses = tuple[frozenset[Address], frozenset[Address]]
"""The ClusterIPs and the external addresses of one service."""
_NOTHING: _Uses = (frozenset(), frozenset())


class SharedAddresses:
    """Which services have an address as their ClusterIP, and which as an external one."""

    def __init__(self) -> None:
        self._uses: dict[ServiceKey, _Uses] = {}
        self._cluster: _Users = {}
        self._external: _Users = {}

    def replace(self, key: ServiceKey, plan: ServicePlan | None) -> set[ServiceKey]:
        """Replaces a service's addresses; returns the services whose problems may have changed."""
        old, new = self._uses.get(key, _NOTHING), _uses(plan)
        if old == new:
            return set()
        touched: set[ServiceKey] = set()
        for users, before, after in zip((self._cluster, self._external), old, new, strict=True):
            for address in before - after:
                _drop(users, address, key)
            for address in after - before:
                users[address] = (*users.get(address, ()), key)
        for address in old[0] ^ new[0]:
            touched.update(self._external.get(address, ()))
        if new == _NOTHING:
            self._uses.pop(key, None)
        else:
            self._uses[key] = new
        return touched

    def problems(self, key: ServiceKey, plan: ServicePlan) -> Iterable[Problem]:
        """Yields a problem for each external address of the service that is another's ClusterIP."""
        external = self._uses.get(key, _NOTHING)[1] if plan.items else ()
        for address in sorted(external):
            for other in sorted(self._cluster.get(address, ())):
                if other != key:
                    message = (
                        f"has the external address {format_address(address)}, the ClusterIP of "
                        f"{title(other)}; expected an address of its own; give it another"
                    )
                    yield Problem(f"Service {'/'.join(key)}", message)


def title(key: ServiceKey) -> str:
    """The name of a service in messages, or of a pod, whose key has `pod/` in its name."""
    namespace, name = key
    pod = name.removeprefix("pod/")
    return f"service {namespace}/{name}" if pod == name else f"pod {namespace}/{pod}"


def _uses(plan: ServicePlan | None) -> _Uses:
    if plan is None:
        return _NOTHING
    cluster, external = set(), set()
    for item in plan.items:
        for frontend in item.frontends:
            if frontend.flags & _CLUSTER_IP:
                cluster.add(frontend.address)
            elif frontend.flags & _EXTERNAL:
                external.add(frontend.address)
    return frozenset(cluster), frozenset(external)


def _drop(users: _Users, address: Address, key: ServiceKey) -> None:
    rest = tuple(other for other in users[address] if other != key)
    if rest:
        users[address] = rest
    else:
        del users[address]
