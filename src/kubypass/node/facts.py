# SPDX-License-Identifier: Apache-2.0
"""What the agent finds on its node: uplinks and addresses."""

from __future__ import annotations

import fnmatch
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubypass.errors import ConfigError
from kubypass.kernel import sysctl
from kubypass.kernel.netlink import Link, Netlink, Route
from kubypass.model.address import (
    Address,
    family,
    is_ipv6_link_local,
    is_loopback,
    mapped_address,
)
from kubypass.settings.settings import Settings

POD_PREFIX = "lxc"


@dataclass(frozen=True, slots=True)
class NodeState:
    """The node's devices and addresses, at one moment."""

    links: dict[str, Link]
    uplinks: tuple[Link, ...]
    addresses: tuple[Address, ...]
    """All but loopback's."""
    primary: dict[int, Address]
    """By family: the source of translated packets."""
    with_node_ports: frozenset[Address]
    """Those of the addresses on which NodePorts answer."""
    ephemeral: tuple[int, int]
    """First and last of the ports that sockets get by themselves."""

    @property
    def own_devices(self) -> tuple[Link, ...]:
        """Those with programs that are no pod's: uplinks, and the loopback device."""
        return (*self.uplinks, self.links["lo"])

    @property
    def ways(self) -> tuple[object, ...]:
        """What routes to other nodes depend on."""
        return self.uplinks, {a for a in self.addresses if not is_ipv6_link_local(a)}


def read_node(settings: Settings, internal: Collection[Address] = ()) -> NodeState:
    """Looks at the network namespace that we are in.

    Primary are the `internal` addresses, which the Node object names; where none of them is an uplink's, the address
    that the first uplink has had longest.
    """
    with Netlink() as netlink:
        links = {link.name: link for link in netlink.links()}
        found = netlink.addresses()
        routes = netlink.routes()
    addressed = {
        entry.ifindex for entry in found if not is_ipv6_link_local(mapped_address(entry.address))
    }
    loopback = {link.index for link in links.values() if link.name == "lo"}
    by_link: dict[int, list[Address]] = {}
    for entry in found:
        by_link.setdefault(entry.ifindex, []).append(mapped_address(entry.address))
    named = {index for index, some in by_link.items() if set(some) & set(internal)}
    uplinks = _uplinks(links, routes, addressed, named, settings)
    addresses = [a for index, some in by_link.items() for a in some if index not in loopback]
    addresses += [a for index in loopback for a in by_link.get(index, ()) if not is_loopback(a)]
    primary: dict[int, Address] = {}
    for link in uplinks:
        for address in _oldest_first(by_link.get(link.index, ())):
            if not is_ipv6_link_local(address):
                primary.setdefault(family(address), address)
    uplink_addresses = {a for link in uplinks for a in by_link.get(link.index, ())}
    for address in reversed([a for a in internal if a in uplink_addresses]):
        primary[family(address)] = address
    own = tuple(sorted(set(addresses)))
    with_node_ports = settings.node_ports.addresses.chosen(own, primary.values())
    return NodeState(links, uplinks, own, primary, with_node_ports, _ephemeral())


def _ephemeral() -> tuple[int, int]:
    first, last = (sysctl.read("net.ipv4.ip_local_port_range") or "32768 60999").split()
    return int(first), int(last)


def _oldest_first(addresses: Sequence[Address]) -> list[Address]:
    """Linux lists a device's IPv4 addresses in the order of their coming, IPv6 ones the other way round."""
    ipv4 = [address for address in addresses if family(address) == 4]
    return [*ipv4, *(address for address in reversed(addresses) if family(address) == 6)]


def _uplinks(
    links: dict[str, Link],
    routes: list[Route],
    addressed: set[int],
    named: set[int],
    settings: Settings,
) -> tuple[Link, ...]:
    """The devices of the setting `devices`; else those with a default route or an address that the Node object names.

    Where there is none, the first that has an address. `addressed` and `named` are indexes.
    """
    if settings.network.devices:
        patterns = [
            f"{name[:-1]}*" if name.endswith("+") else name for name in settings.network.devices
        ]
        chosen = [
            link for link in links.values() if any(fnmatch.fnmatch(link.name, p) for p in patterns)
        ]
        if not chosen:
            raise ConfigError(
                f"devices={' '.join(settings.network.devices)}: no such device",
                hint=f"devices here are {' '.join(sorted(links))}",
            )
        return tuple(chosen)
    leading = named | {route.ifindex for route in routes if route.prefix == 0}
    chosen = [x for x in links.values() if x.index in leading and x.name != "lo" and not _is_pod(x)]
    if not chosen:
        candidates = (x for x in links.values() if x.index in addressed and x.name != "lo")
        chosen = [link for link in candidates if link.up and not _is_pod(link)][:1]
    if not chosen:
        raise ConfigError(
            "no device leads out of this node", hint="set `devices`, or give one an address"
        )
    return tuple(chosen)


def _is_pod(link: Link) -> bool:
    return link.name.startswith(POD_PREFIX)


def interface_index(name: str) -> int | None:
    """The index of a device, None where there is none (yet)."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None
