# SPDX-License-Identifier: Apache-2.0
"""Explains why an endpoint is in a list of its service port or is not: the rules of backends.py in words."""

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
    """One endpoint of a service port, with the reason for its use."""

    address: str
    """Address and port."""
    node: str
    used: bool
    why: str


@dataclass(frozen=True, slots=True)
class PortExplanation:
    """A service port, with the policies that choose a list and every endpoint with its reason."""

    service: str
    """`namespace/name`, or `pod namespace/name` for a host port."""
    port: str
    external_policy: str
    internal_policy: str
    endpoints: tuple[EndpointNote, ...]


def explain_service_port(
    service: Service,
    key: ItemKey,
    slices: Sequence[EndpointSlice],
    node: PlanNode,
    chosen: BackendList,
) -> PortExplanation | None:
    """Explains the port that `key` names; None where the service no longer has it."""
    port = next(
        (p for p in service.ports if (p.name, p.protocol) == (key.port_name, key.protocol)), None
    )
    if port is None:
        return None
    usable = [one for one in slices if one.family == key.family]
    return PortExplanation(
        f"{key.namespace}/{key.name}",
        port.name or str(port.port),
        "Local" if service.external_local else "Cluster",
        "Local" if service.internal_local else "Cluster",
        _notes(usable, port, node, chosen),
    )


def explain_host_port(item: Item, node: PlanNode) -> PortExplanation:
    """Explains a host port of a pod."""
    (backend,) = item.backends
    address = format_address_port(*backend[:2])
    note = EndpointNote(address, node.name, used=True, why="it has the port")
    subject = title((item.key.namespace, item.key.name))
    return PortExplanation(subject, str(backend.port), "Cluster", "Cluster", (note,))


def _notes(
    slices: Sequence[EndpointSlice], port: ServicePort, node: PlanNode, chosen: BackendList
) -> tuple[EndpointNote, ...]:
    found = endpoints_of(slices, port, node.name)
    planned = {b[:2]: b for b in plan_backends(slices, port, node, local=True)}
    members = {key for key, b in planned.items() if b.lists & chosen}
    any_ready = any(planned[key].state == BackendState.ACTIVE for key in members)
    notes = []
    for key in sorted(found):
        endpoint, used = found[key], key in members
        if used:
            ready = endpoint.ready
            why = "ready" if ready else "terminating, still serving, and nothing else is ready"
        else:
            why = _why_not_used(endpoint, node, chosen, any_ready=any_ready)
        text = format_address_port(*key)
        notes.append(EndpointNote(text, endpoint.node, used, why))
    return tuple(notes)


def _why_not_used(
    endpoint: Endpoint, node: PlanNode, chosen: BackendList, *, any_ready: bool
) -> str:
    if chosen == BackendList.LOCAL and not endpoint.is_on(node.name):
        where = f"on node {endpoint.node}" if endpoint.node else "on no node that is known"
        return f"{where}: the traffic policy is Local"
    if not endpoint.weight:
        return "its EndpointSlice has the weight 0 (annotation service.cilium.io/weight)"
    if not endpoint.ready:
        if endpoint.terminating and endpoint.serving and any_ready:
            return "terminating, and others are ready"
        return "terminating, no longer serving" if endpoint.terminating else "not ready"
    if endpoint.nodes and node.name not in endpoint.nodes:
        return f"hints keep it for node {', '.join(endpoint.nodes)}"
    return f"hints keep it for zone {', '.join(endpoint.zones)}, this node is in {node.zone}"
