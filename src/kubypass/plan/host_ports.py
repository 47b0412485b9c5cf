# SPDX-License-Identifier: Apache-2.0
"""Plans the host ports of a pod on this node: one item for each port and family, whose only backend is the pod.

hostIP          frontend
none            every address of the node, in each family that the pod has
0.0.0.0 or ::   every address of the node, in that family
one of the node that address
loopback        that address, which only the node's own sockets reach
any other       none, and a problem: it would take another machine's traffic

A NodePort of a Service comes before the same host port of a pod (conflicts.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kubypass.model.address import (
    UNSPECIFIED,
    Address,
    family,
    format_address,
    is_loopback,
)
from kubypass.model.problem import Problem
from kubypass.model.verdict import BackendState, ServiceFlag
from kubypass.plan.conflicts import Precedence, Rank
from kubypass.plan.items import (
    Item,
    ItemKey,
    PlannedBackend,
    PlannedFrontend,
    PlanNode,
    ServicePlan,
)

if TYPE_CHECKING:
    from kubypass.model.host_port import HostPort, HostPortPod
    from kubypass.settings.settings import Settings

_FLAGS = int(ServiceFlag.HOST_PORT | ServiceFlag.HAS_ENDPOINTS)


def plan_host_ports(pod: HostPortPod, node: PlanNode, settings: Settings) -> ServicePlan:
    """Plans what the pod needs on its node; on any other node, it needs nothing."""
    if pod.node != node.name or not settings.services.with_host_ports:
        return ServicePlan(())
    items: list[Item] = []
    problems: list[Problem] = []
    for port in pod.ports:
        if _is_foreign(port, node):
            message = f"host port {port} is not on an address of this node; it is not served"
            problems.append(Problem(f"Pod {pod.namespace}/{pod.name}", message))
        else:
            items += _items(pod, port, settings)
    return ServicePlan(tuple(items), tuple(problems), pod.balances)


def pod_rank(pod: HostPortPod) -> Rank:
    """The pod's rank in conflicts; a pod that is being deleted loses to any other."""
    return Rank(pod.created, Precedence.TERMINATING_POD if pod.terminating else Precedence.POD)


def _is_foreign(port: HostPort, node: PlanNode) -> bool:
    address = port.address
    if address is None or address in UNSPECIFIED.values():
        return False
    return not is_loopback(address) and address not in node.local_addresses


def _items(pod: HostPortPod, port: HostPort, settings: Settings) -> Iterator[Item]:
    name = str(port.port)
    if port.address is not None:
        name = f"{format_address(port.address)}/{port.port}"
    for address in pod.addresses:
        version = family(address)
        host: Address = port.address or UNSPECIFIED[version]
        if not settings.network.has_family(version) or family(host) != version:
            continue
        yield Item(
            ItemKey(*pod.key, name, port.protocol, version),
            (PlannedFrontend(host, port.port, port.protocol, _FLAGS),),
            (PlannedBackend(address, port.container_port, BackendState.ACTIVE),),
        )
