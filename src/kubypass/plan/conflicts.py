# SPDX-License-Identifier: Apache-2.0
"""Settles conflicts: of several that claim one frontend, one gets it, and the others get a problem that says so.

Services come before pods with host ports, and pods before pods that are being deleted. Of two alike, the one that has
the frontend keeps it: whoever comes later takes nothing from a running service, whatever it says of its age. Owners
have what they have from `commit` on; after a restart, `adopt` asks who had what. Where nobody has it yet, the older one
wins: the one created first, then the first by namespace and name. A service without a creation time (a manifest written
by hand) counts as younger than any with one. Within a service, the first item wins.

The same order decides between a port on every address of the node (a wildcard frontend: a NodePort or a host port) and
the same port on one of these addresses (a specific frontend: an external address or a host port). An earlier specific
frontend takes its address from the wildcard one, which keeps the other addresses. A NodePort never conflicts on an
address on which NodePorts do not answer. A pod that is a service's load balancer (k3s has one on each node, with the
service's ports as host ports) loses nothing to its service, which is no problem.

An example: a node with the address 192.0.2.1, and four that come at once and claim port 30080/TCP:

claimant      created  frontend           outcome
Service vip   2023     192.0.2.1:30080    gets it: it is older than shop
Service shop  2024     0.0.0.0:30080      gets it, but not on 192.0.2.1: a problem of shop names vip
Service blog  2025     0.0.0.0:30080      does not get it: a problem of blog names shop
Pod     dns   2022     0.0.0.0:30080      does not get it: services come first

The state of `Claims` is then:

_owner      {0.0.0.0:30080: shop, 192.0.2.1:30080: vip}
_claimants  {0.0.0.0:30080: {shop, blog, dns}}             frontends that two or more claim
_contested  {shop: 1, blog: 1, dns: 1}                     how many such frontends each one claims
_specific   {0.0.0.0:30080: {192.0.2.1:30080}}             by the wildcard frontend of the same port
_since      {}                                             in which round its owner got a frontend, if not in the first

If vip goes away, `replace` returns {shop}: shop has to be settled again, and then has 192.0.2.1 too. If shop goes away,
`replace` returns {blog, dns, vip}: blog is the new owner of 0.0.0.0:30080.

This is the only state of planning. Between two commits, services are added and removed one by one, in any order, with
the same outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from kubypass.model.address import Address, is_loopback
from kubypass.model.host_port import is_pod
from kubypass.model.problem import Problem
from kubypass.model.verdict import ServiceFlag
from kubypass.plan.frontend_keys import (
    FrontendKey,
    address_of,
    format_key,
    frontend_key,
    is_wildcard,
    wildcard_key,
)
from kubypass.plan.items import Item, PlannedFrontend, ServicePlan
from kubypass.plan.shared_addresses import SharedAddresses, title

if TYPE_CHECKING:
    from kubypass.model.service import ServiceKey


class Precedence(IntEnum):
    """Decides before age does."""

    SERVICE = 0
    POD = 1
    TERMINATING_POD = 2


class Rank(NamedTuple):
    """The smallest rank wins; names decide between equal ranks. Without a creation time, it is the largest."""

    created: str = ""
    precedence: Precedence = Precedence.SERVICE

    def of(self, key: ServiceKey) -> _FullRank:
        """The rank of the service or pod with this name; no two are equal."""
        return (self.precedence, self.created or _NEVER, *key)


_FullRank = tuple[int, str, str, str]
_NEVER = "\x7f"
"""Comes after any time."""
_ADOPTED, _ADOPTED_FIRST = -1, -2
"""Rounds before the first one: a specific frontend that is there beside a wildcard one was there first."""
Before = Callable[[FrontendKey, Iterable["ServiceKey"]], "ServiceKey | None"]
"""Says which of these services had a frontend before a restart, if one of them had it."""


def _everywhere(_: Address) -> bool:
    return True


class Claims:
    """Who claims which frontend."""

    def __init__(
        self,
        addresses: Iterable[Address] = (),
        node_ports_answer: Callable[[Address], bool] = _everywhere,
    ) -> None:
        """`addresses` are the node's own. `node_ports_answer` says whether NodePorts answer on one of them."""
        self._ranks: dict[ServiceKey, _FullRank] = {}
        self._frontends: dict[ServiceKey, tuple[FrontendKey, ...]] = {}
        self._owner: dict[FrontendKey, ServiceKey] = {}
        self._claimants: dict[FrontendKey, set[ServiceKey]] = {}
        self._contested: dict[ServiceKey, int] = {}
        self._specific: dict[FrontendKey, set[FrontendKey]] = {}
        self._node_addresses: frozenset[Address] = frozenset(addresses)
        self._node_ports_answer = node_ports_answer
        self._shared = SharedAddresses()
        self._balances: dict[ServiceKey, ServiceKey] = {}
        """The pods that are a service's load balancer on this node."""
        self._since: dict[FrontendKey, int] = {}
        self._round = 0

    def adopt(self, before: Before) -> None:
        """After a restart, with everything claimed and nothing settled: who had a frontend keeps it."""
        for frontend, claimants in self._claimants.items():
            if (owner := before(frontend, claimants)) is not None:
                self._owner[frontend] = owner
                self._since[frontend] = _ADOPTED
                self._choose(frontend, claimants, set())
        for wildcard, specific in self._specific.items():
            for frontend in (wildcard, *specific):
                owner = self._owner.get(frontend)
                if owner is not None and before(frontend, (owner,)) == owner:
                    self._since[frontend] = _ADOPTED if frontend == wildcard else _ADOPTED_FIRST

    def commit(self) -> None:
        """From now on, every owner has what it was settled to have."""
        self._round += 1

    def set_node_addresses(self, addresses: Iterable[Address]) -> None:
        """Sets the node's addresses; every service has to be settled again."""
        earlier, self._node_addresses = self._node_addresses, frozenset(addresses)
        self._specific = {}
        for frontend in filter(self._is_specific, self._owner):
            wildcard = wildcard_key(frontend)
            self._specific.setdefault(wildcard, set()).add(frontend)
            if self._is_kept(frontend) and address_of(frontend) not in earlier:
                first = min(self._round_of(frontend), self._round_of(wildcard) - 1)
                self._since[frontend] = first  # it had the whole address until now

    def replace(
        self,
        key: ServiceKey,
        plan: ServicePlan | None,
        rank: Rank = Rank(),  # noqa: B008 (immutable)
    ) -> set[ServiceKey]:
        """Replaces the claims of one service (None: it is gone); returns the others that have to be settled again."""
        touched = self._shared.replace(key, plan)
        if plan is not None and plan.balances:
            self._balances[key] = plan.balances
        else:
            self._balances.pop(key, None)
        old, new = self._frontends.get(key, ()), _frontends(plan) if plan else ()
        full, overlapped = rank.of(key), bool(self._specific)
        if old != new or (plan is not None and self._ranks.get(key) != full):
            for frontend in set(old).difference(new):
                self._release(frontend, key, touched)
            if plan is None:
                self._ranks.pop(key, None)
                self._frontends.pop(key, None)
            else:
                self._ranks[key], self._frontends[key] = full, new
            held = frozenset(old)
            for frontend in new:
                if frontend not in held:
                    self._claim(frontend, key, touched)
                elif claimants := self._claimants.get(frontend):
                    self._choose(frontend, claimants, touched)
            if overlapped or self._specific:
                for frontend in (*old, *new):
                    touched |= self._overlapping(frontend)
        touched.discard(key)
        return touched

    def settle(self, key: ServiceKey, plan: ServicePlan) -> ServicePlan:
        """Returns the plan without the frontends that others get, and with a problem for each of them."""
        problems = [*plan.problems, *self._shared.problems(key, plan)]
        taken: set[FrontendKey] = set()
        items: list[Item] = []
        opposed = False
        unopposed = key not in self._contested and not self._specific
        for item in plan.items:
            kept: list[PlannedFrontend] = []
            lost: list[PlannedFrontend] = []
            for planned in item.frontends:
                frontend = frontend_key(planned)
                winner = key if unopposed else self._winner(frontend, key)
                if winner == key and frontend not in taken:
                    taken.add(frontend)
                    kept.append(planned)
                    problems += [] if unopposed else self._lost_addresses(frontend, key)
                else:
                    problems += self._conflict(key, frontend, winner)
                    opposed = True
                    lost += [planned] if planned.flags & ServiceFlag.CLUSTER_IP else []
            same = len(kept) == len(item.frontends)
            items.append(item if same else replace(item, frontends=tuple(kept), lost=tuple(lost)))
        if len(problems) == len(plan.problems) and not opposed:
            return plan
        return ServicePlan(tuple(items), tuple(problems))

    def _winner(self, frontend: FrontendKey, key: ServiceKey) -> ServiceKey:
        """Who gets a frontend that `key` claims: its owner, or an older one that has the port on every address."""
        owner = self._owner.get(frontend, key)
        if frontend in self._specific.get(wildcard := wildcard_key(frontend), ()):
            other = self._owner.get(wildcard)
            if (
                other is not None
                and self._precedes(wildcard, frontend)
                and self._serves(other, frontend)
            ):
                return other
        return owner

    def _precedes(self, frontend: FrontendKey, other: FrontendKey) -> bool:
        """Whether the owner of a frontend comes before the owner of another one that overlaps it."""
        one, two = self._ranks[self._owner[frontend]], self._ranks[self._owner[other]]
        rounds = self._round_of(frontend), self._round_of(other)
        return (one[0], rounds[0], *one[1:]) < (two[0], rounds[1], *two[1:])

    def _round_of(self, frontend: FrontendKey) -> int:
        """In which round its owner got the frontend."""
        return self._since.get(frontend, 0)

    def _is_kept(self, frontend: FrontendKey) -> bool:
        """Whether its owner had the frontend before this round."""
        return self._round_of(frontend) < self._round

    def _serves(self, key: ServiceKey, frontend: FrontendKey) -> bool:
        """Whether `key`, which has the port on every address, answers on this one. A pod's host port always does."""
        return is_pod(key) or self._node_ports_answer(address_of(frontend))

    def _conflict(self, key: ServiceKey, frontend: FrontendKey, owner: ServiceKey) -> list[Problem]:
        """The problem of `key`, which does not get the frontend; none where it goes to the same service either way."""
        if self._balances.get(key) == owner or self._balances.get(owner) == key:
            return []
        return [_problem(key, frontend, owner)]

    def _lost_addresses(self, frontend: FrontendKey, key: ServiceKey) -> Iterable[Problem]:
        """A problem for each address that `key`, which has the port on every address, loses to an older one."""
        for specific in sorted(self._specific.get(frontend, ())):
            other = self._owner[specific]
            if self._precedes(specific, frontend) and self._serves(key, specific):
                yield from self._conflict(key, specific, other)

    def _overlapping(self, frontend: FrontendKey) -> set[ServiceKey]:
        """Who claims the same port on one address of the node, or has it on every address."""
        if is_wildcard(frontend):
            specific = self._specific.get(frontend, ())
            return {
                key for one in specific for key in self._claimants.get(one) or (self._owner[one],)
            }
        if not self._is_specific(frontend):
            return set()
        owner = self._owner.get(wildcard_key(frontend))
        return set() if owner is None else {owner}

    def _is_specific(self, frontend: FrontendKey) -> bool:
        """Whether the frontend's address is one of the node, so that a wildcard frontend can overlap it."""
        address = address_of(frontend)
        return address in self._node_addresses or is_loopback(address)

    def _claim(self, frontend: FrontendKey, key: ServiceKey, touched: set[ServiceKey]) -> None:
        owner = self._owner.setdefault(frontend, key)
        if owner == key:
            self._own(frontend, key)
            if self._is_specific(frontend):
                self._specific.setdefault(wildcard_key(frontend), set()).add(frontend)
            return
        claimants = self._claimants.get(frontend)
        if claimants is None:
            claimants = self._claimants[frontend] = {owner}
            self._count(owner, 1)
        claimants.add(key)
        self._count(key, 1)
        self._choose(frontend, claimants, touched)

    def _release(self, frontend: FrontendKey, key: ServiceKey, touched: set[ServiceKey]) -> None:
        claimants = self._claimants.get(frontend)
        if claimants is None:
            del self._owner[frontend]
            self._since.pop(frontend, None)
            if self._is_specific(frontend):
                wildcard = wildcard_key(frontend)
                self._specific[wildcard].discard(frontend)
                if not self._specific[wildcard]:
                    del self._specific[wildcard]
            return
        claimants.discard(key)
        self._count(key, -1)
        self._choose(frontend, claimants, touched)
        if len(claimants) == 1:
            self._count(next(iter(claimants)), -1)
            del self._claimants[frontend]

    def _choose(
        self, frontend: FrontendKey, claimants: set[ServiceKey], touched: set[ServiceKey]
    ) -> None:
        """Chooses the owner. Problems of all claimants name it, so a new owner touches all of them."""
        incumbent = self._owner[frontend] if self._is_kept(frontend) else None

        def order(key: ServiceKey) -> tuple[object, ...]:
            precedence, *age = self._ranks[key]
            return precedence, key != incumbent, *age

        owner = min(claimants, key=order)
        if owner != self._owner[frontend]:
            self._own(frontend, owner)
            touched |= claimants

    def _own(self, frontend: FrontendKey, key: ServiceKey) -> None:
        """Makes it the owner, from this round on."""
        self._owner[frontend] = key
        if self._round:
            self._since[frontend] = self._round
        else:
            self._since.pop(frontend, None)

    def _count(self, key: ServiceKey, change: int) -> None:
        """Counts the frontends of a service that others claim too."""
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
    """Settles all services at once, with the same outcome as one by one."""
    claims = Claims(addresses, node_ports_answer)
    known = {key: (rank, plan) for key, rank, plan in plans}
    for key, (rank, plan) in known.items():
        claims.replace(key, plan, rank)
    return {key: claims.settle(key, plan) for key, (_, plan) in known.items()}


def _frontends(plan: ServicePlan) -> tuple[FrontendKey, ...]:
    """The keys of all frontends, each once, in order."""
    found = dict.fromkeys(frontend_key(one) for item in plan.items for one in item.frontends)
    return tuple(found)


def _problem(key: ServiceKey, frontend: FrontendKey, owner: ServiceKey) -> Problem:
    name = format_key(frontend)
    if key == owner:
        message = f"has {name} in two of its ports; the first one gets it; remove one"
    else:
        message = (
            f"wants {name}, which is {title(owner)}'s, the one that comes first; "
            "it does not get it; give one of them another"
        )
    subject = title(key)
    return Problem(subject[0].upper() + subject[1:], message)
