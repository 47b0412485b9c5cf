# SPDX-License-Identifier: Apache-2.0
"""Facts of this node: its devices, its uplinks and its addresses."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kubypass.kernel.netlink import Link, LinkAddress, Netlink
from kubypass.model.address import (
    Address,
    family,
    family_bit,
    is_ipv6_link_local,
    is_loopback,
    mapped_address,
)
from kubypass.model.pod import INTERFACE_PREFIX
from kubypass.model.printable import printable
from kubypass.model.problem import Problem
from kubypass.node.reach import DefaultRoutes
from kubypass.node.reserved_ports import ephemeral_ports
from kubypass.node.reverse_path import ReversePathFilters
from kubypass.node.uplinks import LeftOut, choose_uplinks
from kubypass.settings.settings import Settings

_LOOPBACK = "lo"
_NAMED = 5
_Addresses = Mapping[int, Sequence[Address]]
"""Addresses by the index of their device, in the kernel's order."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node's devices and addresses at one moment."""

    links: dict[str, Link]
    uplinks: tuple[Link, ...]
    addresses: tuple[Address, ...]
    """All addresses of the node, without those of 127.0.0.0/8 and ::1."""
    primary: dict[int, Address]
    """The address of each family that translated packets are sent from."""
    with_node_ports: frozenset[Address]
    """The addresses on which NodePorts answer."""
    ephemeral: tuple[int, int]
    """The first and the last port that the kernel gives to sockets that ask for none."""
    left_out: tuple[LeftOut, ...] = ()
    """Devices with addresses or routes that take no part."""
    device_addresses: _Addresses = field(default_factory=dict)

    @property
    def own_devices(self) -> tuple[Link, ...]:
        """The devices with programs that belong to no pod: the uplinks, and the loopback device."""
        return (*self.uplinks, self.links[_LOOPBACK])

    @property
    def problems(self) -> tuple[Problem, ...]:
        """A problem for each device that our programs cannot serve."""
        return tuple(
            Problem(
                f"Device {one.name}",
                f"takes no part: {one.reason}; NodePorts and external addresses are not served there, and its "
                "packets are left alone",
            )
            for one in self.left_out
            if not one.served
        )

    @property
    def notes(self) -> list[str]:
        """Who takes no part for another reason: a line for each reason."""
        names: dict[str, list[str]] = {}
        for one in self.left_out:
            if one.served:
                names.setdefault(one.reason, []).append(printable(one.name))
        return [
            f"no NodePorts by {_some(several)}: {reason}; `devices` may name what is to take part"
            for reason, several in names.items()
        ] + self._strict_notes()

    def _strict_notes(self) -> list[str]:
        """Reverse path filters that drop answers where they arrive by another device than the route to their source."""
        if len(self.uplinks) < 2:
            return []
        filters = ReversePathFilters()
        return [
            f"net.ipv4.conf.{printable(link.name)}.rp_filter is strict: of what arrives there for the node itself, the "
            "kernel drops packets whose source is routed by another device; 2 is loose"
            for link in self.uplinks
            if filters.is_strict(link.name)
        ]

    @property
    def devices_for_routes(self) -> tuple[frozenset[int], frozenset[int]]:
        """Indexes of pods' devices, and of those that need no more routes to take part."""
        pods = {
            link.index for name, link in self.links.items() if name.startswith(INTERFACE_PREFIX)
        }
        return frozenset(pods), frozenset(link.index for link in self.own_devices)

    @property
    def direct(self) -> tuple[Link, ...]:
        """The uplinks that have a primary address: pods' packets leave by them."""
        primary = set(self.primary.values())
        found = tuple(
            link
            for link in self.uplinks
            if not primary.isdisjoint(self.device_addresses.get(link.index, ()))
        )
        return found or self.uplinks

    def sources(self, link: Link) -> dict[int, Address]:
        """The address of each family that leaves by an uplink: the primary one if it is there, else the oldest.

        A device without an address of a family has the primary one.
        """
        here = _oldest_first(self.device_addresses.get(link.index, ()))
        primary = tuple(self.primary.values())
        found: dict[int, Address] = {}
        for address in (*(a for a in primary if a in here), *here, *primary):
            if not is_ipv6_link_local(address) and not is_loopback(address):
                found.setdefault(family(address), address)
        return found

    @property
    def only_families(self) -> int:
        """The families (family bits) in which the node has its primary address and no other: every route has it."""
        found = 0
        for primary in self.primary.values():
            version = family(primary)
            here = {address for address in self.addresses if family(address) == version}
            if {address for address in here if not is_ipv6_link_local(address)} == {primary}:
                found |= family_bit(version)
        return found

    @property
    def routing_inputs(self) -> tuple[object, ...]:
        """The facts that routes to other nodes depend on."""
        return self.uplinks, {a for a in self.addresses if not is_ipv6_link_local(a)}


def read_node(settings: Settings, internal: Collection[Address] = ()) -> NodeState:
    """Reads the facts of the network namespace that we are in; ConfigError where it has no uplink.

    `internal` are the addresses that the Node object names.
    """
    with Netlink() as netlink:
        links = {link.name: link for link in netlink.links()}
        found = netlink.addresses()
        by_device: dict[int, list[LinkAddress]] = {}
        for entry in found:
            by_device.setdefault(entry.ifindex, []).append(entry)
        devices = settings.network.devices
        uplinks = choose_uplinks(links, by_device, DefaultRoutes(netlink), devices, internal)
    addresses = _by_device(found)
    primary = _primary(uplinks.chosen, addresses, internal)
    own = _own_addresses(addresses)
    with_node_ports = settings.node_ports.addresses.chosen(own, primary.values())
    return NodeState(
        links,
        uplinks.chosen,
        own,
        primary,
        with_node_ports,
        ephemeral_ports(),
        uplinks.left_out,
        addresses,
    )


def _by_device(found: Iterable[LinkAddress]) -> dict[int, list[Address]]:
    addresses: dict[int, list[Address]] = {}
    for entry in found:
        addresses.setdefault(entry.ifindex, []).append(mapped_address(entry.address))
    return addresses


def _own_addresses(addresses: _Addresses) -> tuple[Address, ...]:
    every = {address for some in addresses.values() for address in some}
    return tuple(sorted(address for address in every if not is_loopback(address)))


def _primary(
    uplinks: Sequence[Link], addresses: _Addresses, internal: Collection[Address]
) -> dict[int, Address]:
    """The first internal address of each family that an uplink has, else the oldest address of the first uplink."""
    primary: dict[int, Address] = {}
    oldest_first = [a for link in uplinks for a in _oldest_first(addresses.get(link.index, ()))]
    named = [address for address in internal if address in oldest_first]
    for address in (*named, *(a for a in oldest_first if not is_ipv6_link_local(a))):
        primary.setdefault(family(address), address)
    return primary


def _oldest_first(addresses: Sequence[Address]) -> list[Address]:
    """Linux lists the IPv4 addresses of a device oldest first, and the IPv6 addresses newest first."""
    ipv4 = [address for address in addresses if family(address) == 4]
    return [*ipv4, *(address for address in reversed(addresses) if family(address) == 6)]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} others" if more > 0 else "")


def interface_index(name: str) -> int | None:
    """The index of a device; None where there is no device of that name."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None
