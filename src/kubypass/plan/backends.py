# SPDX-License-Identifier: Apache-2.0
"""Plans the backends of one service port from its endpoints, in the two lists that traffic policies choose from.

endpoint                               state       lists
ready                                  ACTIVE      Cluster, unless hints keep it for others; Local, if on this node
serving and terminating                TERMINATING Cluster if nothing is ready; Local if nothing on this node is ready
serving, neither ready nor terminating NOT_READY   none: it keeps its connections
serving, of weight 0                   NOT_READY   the same: somebody has taken it out by annotation
otherwise                              -           -

Follows kube-proxy's `CategorizeEndpoints`, KEP-1669 (terminating endpoints) and KEP-2433 (hints).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kubypass.model.address import AddressPort
from kubypass.model.verdict import BackendList, BackendState
from kubypass.plan.items import PlannedBackend, PlanNode

if TYPE_CHECKING:
    from kubypass.model.endpoint import Endpoint, EndpointSlice
    from kubypass.model.service import ServicePort

_Endpoints = dict[AddressPort, "Endpoint"]

_ACTIVE, _TERMINATING, _NOT_READY = (
    BackendState.ACTIVE,
    BackendState.TERMINATING,
    BackendState.NOT_READY,
)
_CLUSTER, _LOCAL = int(BackendList.CLUSTER), int(BackendList.LOCAL)


def plan_backends(
    slices: Iterable[EndpointSlice], port: ServicePort, node: PlanNode, *, local: bool
) -> tuple[PlannedBackend, ...]:
    """Plans backends in order of address and port; `local` says whether a policy needs the Local list."""
    found = endpoints_of(slices, port, node.name)
    ready = {key: endpoint for key, endpoint in found.items() if endpoint.ready and endpoint.weight}
    near = _near(ready, node)
    if not local and len(ready) == len(found) and near is ready:
        return tuple(
            [PlannedBackend(*key, _ACTIVE, _CLUSTER, found[key].weight) for key in sorted(found)]
        )
    states = {key: _state(endpoint) for key, endpoint in found.items()}
    terminating = [key for key, state in states.items() if state == _TERMINATING]
    in_cluster, in_local = set(near or terminating), set[AddressPort]()
    if local:
        in_local = _on_node(ready, found, node.name) or _on_node(terminating, found, node.name)
    weights = {key: endpoint.weight or 1 for key, endpoint in found.items()}
    return tuple(_in_lists(states, weights, in_cluster, in_local))


def _state(endpoint: Endpoint) -> BackendState | None:
    """The state of an endpoint's backend; None for an endpoint that is no backend."""
    if endpoint.ready and endpoint.weight:
        return _ACTIVE
    if endpoint.serving and endpoint.terminating and endpoint.weight:
        return _TERMINATING
    return _NOT_READY if endpoint.serving or endpoint.ready else None


def _in_lists(
    states: Mapping[AddressPort, BackendState | None],
    weights: Mapping[AddressPort, int],
    in_cluster: set[AddressPort],
    in_local: set[AddressPort],
) -> Iterator[PlannedBackend]:
    for key in sorted(states):
        state = states[key]
        if state is not None:
            lists = (_CLUSTER if key in in_cluster else 0) | (_LOCAL if key in in_local else 0)
            yield PlannedBackend(*key, state, lists, weights[key])


def is_usable(backends: Sequence[PlannedBackend]) -> bool:
    """Whether some endpoint gets new connections, on this node or on another one."""
    return any(backend.state != _NOT_READY for backend in backends)


def endpoints_of(
    slices: Iterable[EndpointSlice], port: ServicePort, node: str
) -> dict[AddressPort, Endpoint]:
    """The endpoints of one service port.

    Of two with the same address and port, an endpoint on this node comes first, then the one in the better state.
    """
    found: _Endpoints = {}
    name, protocol = port.name, port.protocol
    for one in slices:
        for slice_port in one.ports:
            if slice_port[0] != name or slice_port[1] != protocol:
                continue
            number = slice_port[2]
            for endpoint in one.endpoints:
                key = (endpoint.address, number)
                other = found.get(key)
                if other is None or _rank(endpoint, node) > _rank(other, node):
                    found[key] = endpoint
    return found


def _rank(endpoint: Endpoint, node: str) -> tuple[bool, bool, bool]:
    return (
        endpoint.is_on(node),
        endpoint.ready and endpoint.weight > 0,
        endpoint.serving and endpoint.terminating,
    )


def _on_node(keys: Iterable[AddressPort], found: _Endpoints, node: str) -> set[AddressPort]:
    return {key for key in keys if found[key].is_on(node)}


def _near(ready: _Endpoints, node: PlanNode) -> Iterable[AddressPort]:
    """The endpoints that hints keep for this node, else those for its zone, else all.

    Hints count only where every ready endpoint has one, and where they leave this node an endpoint.
    """
    if all(e.nodes for e in ready.values()):
        mine = [key for key, e in ready.items() if node.name in e.nodes]
        if mine:
            return mine
    if node.zone and all(e.zones for e in ready.values()):
        mine = [key for key, e in ready.items() if node.zone in e.zones]
        if mine:
            return mine
    return ready
