# SPDX-License-Identifier: Apache-2.0
"""The value of `nodeport-addresses`: on which of the node's addresses NodePorts answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kubypass.model.address import Address, Family, family
from kubypass.model.cidr import Cidr
from kubypass.settings.parse import parse_cidrs


@dataclass(frozen=True, slots=True)
class NodePortAddresses:
    """On which of the node's addresses NodePorts answer; each family by itself."""

    primary: bool = False
    """Only on the primary address of each family."""
    cidrs: tuple[Cidr, ...] = ()
    """Only on those in a network of their family; a family without any has all."""

    def all_of(self, version: Family) -> bool:
        """Whether every address of the family is meant."""
        cidrs = [cidr for cidr in self.cidrs if cidr.family == version]
        return not self.primary and (not cidrs or any(cidr.prefix == 0 for cidr in cidrs))

    def selects(self, address: Address, primary: Collection[Address]) -> bool:
        """Whether NodePorts answer on this address; `primary` are the node's primary ones."""
        if self.primary:
            return address in primary
        return self.all_of(family(address)) or any(cidr.contains(address) for cidr in self.cidrs)

    def chosen(
        self, addresses: Iterable[Address], primary: Collection[Address]
    ) -> frozenset[Address]:
        """Those of the addresses that it selects."""
        return frozenset(address for address in addresses if self.selects(address, primary))


def parse_node_port_addresses(text: str) -> NodePortAddresses:
    """`primary`, or networks separated by commas; empty text is every address."""
    if text == "primary":
        return NodePortAddresses(primary=True)
    try:
        return NodePortAddresses(cidrs=parse_cidrs(text))
    except ValueError as error:
        raise ValueError(f'{error}; or "primary"') from None
