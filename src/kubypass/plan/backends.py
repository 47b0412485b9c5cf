# SPDX-License-Identifier: Apache-2.0
"""The endpoints of one service port -> its backends, in the two lists that traffic policies choose from.

endpoint                               state       in the lists
ready                                  ACTIVE      Cluster, unless hints keep it for others; Local, if of this node
serving and terminating                TERMINATING Cluster where nothing is ready; Local where nothing of this node is
serving, neither ready nor terminating NOT_READY   none: it keeps its connections
otherwise                              -           -

After kube-proxy's `CategorizeEndpoints` and KEP-1669 (terminating endpoints), KEP-2433 (hints).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kubypass.model.address import Address
from kubypass.model.verdict import BackendList, BackendState
from kubypass.plan.items import PlannedBackend, PlanNode

if TYPE_CHECKING:
    from kubypass.model.endpoint import Endpoint, EndpointSlice
    from kubypass.model.service import ServicePort

_Place = tuple[Address, int]
"""Address and port."""
_Found = dict[_Place, "Endpoint"]

_ACTIVE, _TERMINATING, _NOT_READY = (
    BackendState.ACTIVE,
    BackendState.TERMINATING,
    BackendState.NOT_READY,
)
_CLUSTER, _LOCAL = int(BackendList.CLUSTER), int(BackendList.LOCAL)


def plan_backends(
    slices: Iterable[EndpointSlice], port: ServicePort, node: PlanNode, *, local: bool
) -> tuple[PlannedBackend, ...]:
    """In order of address and port; `local` says whether the Local list is asked for."""
    found = endpoints_of(slices, port, node.name)
    ready = {place: e for place, e in found.items() if e.ready}
    ending = {place for place, e in found.items() if not e.ready and e.serving and e.terminating}
    cluster: Iterable[_Place] = _near(ready, node) if ready else ending
    if not local and len(ready) == len(found) and cluster is ready:
        return tuple([PlannedBackend(*place, _ACTIVE, _CLUSTER) for place in sorted(found)])
    in_cluster = set(cluster)
    in_local = _of_node(ready, found, node.name) or _of_node(ending, found, node.name)
    planned = []
    for place in sorted(found):
        lists = (_CLUSTER if place in in_cluster else 0) | (
            _LOCAL if local and place in in_local else 0
        )
        state = _ACTIVE if place in ready else _TERMINATING if place in ending else _NOT_READY
        if state != _NOT_READY or found[place].serving:
            planned.append(PlannedBackend(*place, state, lists))
    return tuple(planned)


def is_usable(backends: Sequence[PlannedBackend]) -> bool:
    """Whether some endpoint gets new connections, on this node or elsewhere."""
    return any(backend.state != _NOT_READY for backend in backends)


def endpoints_of(
    slices: Iterable[EndpointSlice], port: ServicePort, node: str
) -> dict[_Place, Endpoint]:
    """Of one service port. Where slices disagree about an address and port, this node's counts, then the best one."""
    found: _Found = {}
    name, protocol = port.name, port.protocol
    for one in slices:
        for slice_port in one.ports:
            if slice_port[0] != name or slice_port[1] != protocol:
                continue
            number = slice_port[2]
            for endpoint in one.endpoints:
                place = (endpoint.address, number)
                other = found.get(place)
                if other is None or _rank(endpoint, node) > _rank(other, node):
                    found[place] = endpoint
    return found


def _rank(endpoint: Endpoint, node: str) -> tuple[bool, bool, bool]:
    return (endpoint.is_on(node), endpoint.ready, endpoint.serving and endpoint.terminating)


def _of_node(places: Iterable[_Place], found: _Found, node: str) -> set[_Place]:
    return {place for place in places if found[place].is_on(node)}


def _near(ready: _Found, node: PlanNode) -> Iterable[_Place]:
    """Those meant for this node, else those for its zone: if each says for whom it is, and some are for us."""
    if all(e.nodes for e in ready.values()):
        mine = [place for place, e in ready.items() if node.name in e.nodes]
        if mine:
            return mine
    if node.zone and all(e.zones for e in ready.values()):
        mine = [place for place, e in ready.items() if node.zone in e.zones]
        if mine:
            return mine
    return ready
