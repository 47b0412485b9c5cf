# SPDX-License-Identifier: Apache-2.0
"""Routes to the pods of other nodes. The gateway is an address of that node, which must be on our link."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from kubypass.errors import KernelError
from kubypass.kernel.netlink import Netlink, Route
from kubypass.model.address import family, format_address, mapped_address
from kubypass.model.node import PodRoute
from kubypass.model.problem import Problem
from kubypass.settings.settings import Settings

ROUTE_PROTOCOL = 75
"""The rtm_protocol of our routes: `ip route` shows `proto 75`."""


class _Unreachable(Exception):
    """The node is not on our link. The text says why."""


def sync_routes(planned: Iterable[PodRoute], settings: Settings) -> tuple[int, list[Problem]]:
    """Makes our routes equal to the planned ones; returns how many changed, and a problem for each that cannot be made.

    The kernel says which device leads to a node. A node behind a gateway is a problem, or is skipped with the setting
    `direct-routing-skip-unreachable`.
    """
    wanted: dict[Route, PodRoute] = {}
    changed, problems = 0, []
    with Netlink() as netlink:
        for route in planned:
            try:
                wanted[_route(netlink, route)] = route
            except _Unreachable as reason:
                if not settings.routing.skip_unreachable_nodes:
                    problems.append(_problem(route, str(reason)))
            except KernelError as error:
                problems.append(_problem(route, str(error)))
        present = set(netlink.routes(protocol=ROUTE_PROTOCOL))
        targets = {(route.destination, route.prefix) for route in wanted}
        for gone in present - wanted.keys():
            if (gone.destination, gone.prefix) in targets and gone.family == socket.AF_INET:
                continue  # replaced below in one step: no packet finds neither route
            netlink.delete_route(gone)
            changed += 1
        for made in wanted.keys() - present:
            try:
                netlink.replace_route(made)
                changed += 1
            except KernelError as error:
                problems.append(_problem(wanted[made], str(error)))
    return changed, problems


def _route(netlink: Netlink, planned: PodRoute) -> Route:
    is_ipv4 = family(planned.destination.network) == 4
    cut = 12 if is_ipv4 else 0
    found = netlink.get_route(planned.gateway[cut:])
    if found is None:
        raise _Unreachable("that address is not on our link: nothing leads to it, or it is our own")
    if found.gateway:
        hop = format_address(mapped_address(found.gateway))
        raise _Unreachable(f"that address is not on our link: it is behind the gateway {hop}")
    return Route(
        planned.destination.network[cut:],
        planned.destination.prefix,
        planned.gateway[cut:],
        found.ifindex,
        socket.AF_INET if is_ipv4 else socket.AF_INET6,
        ROUTE_PROTOCOL,
    )


def _problem(route: PodRoute, reason: str) -> Problem:
    message = (
        f"no route to its pods in {route.destination} via {format_address(route.gateway)}: {reason}; route "
        'them in the network, and set direct-routing-skip-unreachable: "true"'
    )
    return Problem(f"Node {route.node}", message)
