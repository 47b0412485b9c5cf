# SPDX-License-Identifier: Apache-2.0
"""The value of `nodeport-addresses`: the node's addresses on which NodePorts answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kubypass.model.address import Address, Family, family
from kubypass.model.cidr import Cidr
from kubypass.settings.parse import parse_cidrs


@dataclass(frozen=True, slots=True)
class NodePortAddresses:
    """The node's addresses on which NodePorts answer. Each family is chosen by itself."""

    primary: bool = False
    """Whether only the primary address of each family is chosen."""
    cidrs: tuple[Cidr, ...] = ()
    """The networks whose addresses are chosen. In a family without a network, every address is chosen."""

    def all_of(self, version: Family) -> bool:
        """Whether every address of the family is chosen."""
        cidrs = [cidr for cidr in self.cidrs if cidr.family == version]
        return not self.primary and (not cidrs or any(cidr.prefix == 0 for cidr in cidrs))

    def selects(self, address: Address, primary: Collection[Address]) -> bool:
        """Whether NodePorts answer on this address. `primary` has the node's primary addresses."""
        if self.primary:
            return address in primary
        return self.all_of(family(address)) or any(cidr.contains(address) for cidr in self.cidrs)

    def chosen(
        self, addresses: Iterable[Address], primary: Collection[Address]
    ) -> frozenset[Address]:
        """Return the addresses on which NodePorts answer."""
        return frozenset(address for address in addresses if self.selects(address, primary))


def parse_node_port_addresses(text: str) -> NodePortAddresses:
    """Read `primary`, or networks separated by commas. Empty text chooses every address."""
    if text == "primary":
        return NodePortAddresses(primary=True)
    try:
        return NodePortAddresses(cidrs=parse_cidrs(text))
    except ValueError as error:
        raise ValueError(f'{error}; or "primary"') from None
