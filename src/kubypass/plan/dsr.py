# SPDX-License-Identifier: Apache-2.0
"""Plans the map `dsr_peers`: the addresses of the other nodes and of their pods, and how DSR reaches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kubypass.model.address import UNSPECIFIED, Address, Family, family
from kubypass.model.cidr import Cidr, host_cidr
from kubypass.model.dsr import DsrPath
from kubypass.model.node import Node

UNASKED = DsrPath(why="has not been asked yet")
_NO_WAY = (UNASKED, UNSPECIFIED[6])


class DsrPeer(NamedTuple):
    """One entry of the map."""

    path: DsrPath
    is_node: bool
    """Whether it is an address of the node itself, at which its NodePorts are."""
    node: Address
    """The node's address, to which tunnels lead."""


def first_addresses(node: Node) -> dict[Family, Address]:
    """The address of each family at which a node is asked."""
    found: dict[Family, Address] = {}
    for address in node.addresses:
        found.setdefault(family(address), address)
    return found


def plan_targets(nodes: Iterable[Node], own: str) -> tuple[Address, ...]:
    """The addresses to ask: those of all nodes but this one."""
    return tuple(
        address for node in nodes if node.name != own for address in first_addresses(node).values()
    )


def plan_peers(
    nodes: Iterable[Node], own: str, paths: Mapping[Address, DsrPath]
) -> dict[Cidr, DsrPeer]:
    """The entries. Nothing is known of a node's pods in a family in which the node has no address."""
    found: dict[Cidr, DsrPeer] = {}
    for node in nodes:
        if node.name == own:
            continue
        first = first_addresses(node)
        ways = {version: (paths.get(end, UNASKED), end) for version, end in first.items()}
        for cidr in node.pod_cidrs:
            path, end = ways.get(cidr.family, _NO_WAY)
            found[cidr] = DsrPeer(path, False, end)
        for address in (*node.addresses, *node.external_addresses):
            path, end = ways.get(family(address), _NO_WAY)
            found[host_cidr(address)] = DsrPeer(path, True, end)
    return found
