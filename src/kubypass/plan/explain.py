# SPDX-License-Identifier: Apache-2.0
"""Why an endpoint is in a list of its service port, or is not: the rules of backends.py in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubypass.model.address import format_address_port
from kubypass.model.verdict import BackendList, BackendState
from kubypass.plan.backends import endpoints_of, plan_backends
from kubypass.plan.items import PlanNode
from kubypass.plan.shared_addresses import title

if TYPE_CHECKING:
    from kubypass.model.endpoint import Endpoint, EndpointSlice
    from kubypass.model.service import Service, ServicePort
    from kubypass.plan.items import Item, ItemKey


@dataclass(frozen=True, slots=True)
class EndpointNote:
    """One endpoint of a service port."""

    address: str
    """With its port."""
    node: str
    used: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explained:
    """A service port, with the policies that choose a list and every endpoint with its reason."""

    service: str
    """`namespace/name`; `pod namespace/name` of a pod that has a port of its node."""
    port: str
    external_policy: str
    internal_policy: str
    endpoints: tuple[EndpointNote, ...]


def explain(
    service: Service,
    key: ItemKey,
    slices: Sequence[EndpointSlice],
    node: PlanNode,
    chosen: BackendList,
) -> Explained | None:
    """The port that `key` names; None where the service has it no more."""
    port = next(
        (p for p in service.ports if (p.name, p.protocol) == (key.port_name, key.protocol)), None
    )
    if port is None:
        return None
    usable = [one for one in slices if one.family == key.family]
    return Explained(
        f"{key.namespace}/{key.name}",
        port.name or str(port.port),
        "Local" if service.external_local else "Cluster",
        "Local" if service.internal_local else "Cluster",
        _notes(usable, port, node, chosen),
    )


def explain_host_port(item: Item, node: PlanNode) -> Explained:
    """The port that a pod has of its node."""
    (backend,) = item.backends
    where = format_address_port(*backend[:2])
    note = EndpointNote(where, node.name, used=True, why="it has the port")
    subject = title((item.key.namespace, item.key.name))
    return Explained(subject, str(backend.port), "Cluster", "Cluster", (note,))


def _notes(
    slices: Sequence[EndpointSlice], port: ServicePort, node: PlanNode, chosen: BackendList
) -> tuple[EndpointNote, ...]:
    found = endpoints_of(slices, port, node.name)
    planned = {b[:2]: b for b in plan_backends(slices, port, node, local=True)}
    members = {place for place, b in planned.items() if b.lists & chosen}
    any_ready = any(planned[place].state == BackendState.ACTIVE for place in members)
    notes = []
    for place in sorted(found):
        endpoint, used = found[place], place in members
        if used:
            ready = endpoint.ready
            why = "ready" if ready else "terminating, still serving, and nothing else is ready"
        else:
            why = _left_out(endpoint, node, chosen, any_ready=any_ready)
        text = format_address_port(place[0], place[1])
        notes.append(EndpointNote(text, endpoint.node, used, why))
    return tuple(notes)


def _left_out(endpoint: Endpoint, node: PlanNode, chosen: BackendList, *, any_ready: bool) -> str:
    if chosen == BackendList.LOCAL and not endpoint.is_on(node.name):
        where = f"on node {endpoint.node}" if endpoint.node else "on no node that is known"
        return f"{where}: the traffic policy is Local"
    if not endpoint.ready:
        if endpoint.terminating and endpoint.serving and any_ready:
            return "terminating, and others are ready"
        return "terminating, no longer serving" if endpoint.terminating else "not ready"
    if endpoint.nodes and node.name not in endpoint.nodes:
        return f"hints keep it for node {', '.join(endpoint.nodes)}"
    return f"hints keep it for zone {', '.join(endpoint.zones)}, this node is in {node.zone}"
