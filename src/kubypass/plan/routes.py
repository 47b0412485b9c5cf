# SPDX-License-Identifier: Apache-2.0
"""Plans native routes between the nodes of one segment: each peer's address is the gateway of its pod networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kubypass.model.address import family
from kubypass.model.cidr import Cidr, format_cidr
from kubypass.model.node import PodRoute
from kubypass.model.problem import Problem

if TYPE_CHECKING:
    from kubypass.model.node import Node
    from kubypass.plan.items import PlanNode
    from kubypass.settings.settings import Settings


def plan_routes(
    nodes: Iterable[Node], node: PlanNode, settings: Settings
) -> tuple[tuple[PodRoute, ...], tuple[Problem, ...]]:
    """Plans routes in order of their nodes; none unless `auto-direct-node-routes` is on.

    Of two nodes with the same pod network, the first by name gets the route, and cidrs.py reports the overlap.
    """
    if not settings.routing.direct_node_routes:
        return (), ()
    routes: dict[Cidr, PodRoute] = {}
    problems: list[Problem] = []
    for peer in sorted(nodes, key=lambda found: found.name):
        if peer.name == node.name:
            continue
        for cidr in peer.pod_cidrs:
            version = cidr.family
            if not settings.network.has_family(version):
                continue
            gateway = next((a for a in peer.addresses if family(a) == version), None)
            if gateway is None:
                message = (
                    f"no IPv{version} InternalIP for a route to its pods in {format_cidr(cidr)}; "
                    "expected one in status.addresses; its pods cannot be reached"
                )
                problems.append(Problem(f"Node {peer.name}", message))
            else:
                routes.setdefault(cidr, PodRoute(cidr, gateway, peer.name))
    return tuple(routes.values()), tuple(problems)
