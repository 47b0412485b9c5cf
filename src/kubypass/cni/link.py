# SPDX-License-Identifier: Apache-2.0
"""Makes a pod's link: a veth with one end in the pod's network namespace, host routes, and permanent neighbours.

The pod has single addresses (/32, /128). No device has the address of its gateway: a permanent neighbour entry leads
to the node's end of the veth, where the node's programs forward the packets.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from kubypass.cni.leases import Lease
from kubypass.errors import KernelError
from kubypass.kernel import netns, sysctl, veth
from kubypass.kernel.netlink import Link, Netlink, Route
from kubypass.kernel.rtnetlink import PROTOCOL_BOOT
from kubypass.model.address import Address, family, parse_address

GATEWAYS = {4: parse_address("169.254.1.1"), 6: parse_address("fe80::1")}
_LEAST_IPV6_MTU = 1280
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def _raw(address: Address) -> bytes:
    return address[12:] if family(address) == 4 else bytes(address)


def link_mtu(lease: Lease, mtu: int) -> int:
    """The MTU of the devices. Below 1280 bytes, the kernel disables IPv6 on a device (RFC 8200 section 5)."""
    has_ipv6 = any(family(address) == 6 for address in lease.addresses)
    return max(mtu, _LEAST_IPV6_MTU) if has_ipv6 else mtu


def pod_routes(lease: Lease, index: int, mtu: int) -> list[Route]:
    """The routes in the pod's namespace: for each family, one to the gateway and the default route."""
    routes = []
    for address in lease.addresses:
        version = family(address)
        gateway, protocol = _raw(GATEWAYS[version]), _FAMILIES[version]
        routes.append(Route(gateway, 8 * len(gateway), b"", index, protocol, PROTOCOL_BOOT))
        least = mtu if version == 4 else max(mtu, _LEAST_IPV6_MTU)
        routes.append(Route(b"", 0, gateway, index, protocol, PROTOCOL_BOOT, _raw(address), least))
    return routes


def node_routes(lease: Lease, index: int, sources: Mapping[int, Address]) -> list[Route]:
    """The routes in the node's namespace: one to each address. `sources` are the node's own addresses by family."""
    routes = []
    for address in lease.addresses:
        raw, version = _raw(address), family(address)
        source = _raw(sources[version]) if version in sources else b""
        routes.append(
            Route(raw, 8 * len(raw), b"", index, _FAMILIES[version], PROTOCOL_BOOT, source)
        )
    return routes


def open_netlink(netns_target: int | str) -> Netlink:
    """Opens a netlink socket in another network namespace, given by descriptor or path."""
    with netns.inside(netns_target):
        return Netlink()


def make_link(
    netlink: Netlink, lease: Lease, netns_fd: int, mtu: int, sources: Mapping[int, Address]
) -> Link:
    """Makes the whole link, replacing what an earlier attempt left; returns the node's end.

    `netns_fd` is the pod's network namespace; `netlink` is in the node's.
    """
    veth.delete(netlink, lease.interface)
    inside_name = lease.attachment.ifname
    here = veth.End(lease.interface, lease.node_mac)
    there = veth.End(inside_name, lease.mac)
    veth.add_pair(netlink, here, there, netns_fd, link_mtu(lease, mtu))
    if any(family(address) == 6 for address in lease.addresses):
        _enable_ipv6(netns_fd, inside_name)
    with open_netlink(netns_fd) as inside:
        end = _existing(inside, inside_name)
        veth.set_up(inside, end.index)
        for address in lease.addresses:
            veth.add_address(inside, end.index, _raw(address))
            gateway = _raw(GATEWAYS[family(address)])
            veth.set_neighbour(inside, end.index, gateway, lease.node_mac)
        for route in pod_routes(lease, end.index, mtu):
            inside.replace_route(route)
    veth.set_up(netlink, _existing(netlink, lease.interface).index)
    made = _existing(netlink, lease.interface)
    repair_node_side(netlink, lease, made.index, sources)
    return made


def repair_node_side(
    netlink: Netlink, lease: Lease, index: int, sources: Mapping[int, Address]
) -> None:
    """Sets neighbours and host routes. The kernel removes a route when the node loses the route's source address."""
    for address in lease.addresses:
        veth.set_neighbour(netlink, index, _raw(address), lease.mac)
    for route in node_routes(lease, index, sources):
        netlink.replace_route(route)


def _existing(netlink: Netlink, name: str) -> Link:
    found = netlink.link(name)
    if found is None:
        raise KernelError("find device", name, 0, "somebody has removed it")
    return found


def _enable_ipv6(netns_fd: int, name: str) -> None:
    """Enables IPv6 on a device; some runtimes disable it in new namespaces."""
    key = f"net/ipv6/conf/{name}/disable_ipv6"
    with netns.inside(netns_fd):
        if sysctl.read(key) == "1":
            sysctl.write(key, "0")


def faults(
    netlink: Netlink, lease: Lease, netns_fd: int, sources: Mapping[int, Address]
) -> list[str]:
    """Says what is not as it was made; an empty list where everything is."""
    link = netlink.link(lease.interface)
    if link is None:
        return [f"the node has no device {lease.interface}"]
    name = lease.attachment.ifname
    found = [] if link.up else [f"{lease.interface} is down"]
    present = set(netlink.routes(device=link.index))
    wanted = node_routes(lease, link.index, sources)
    found += [f"the node has no {_words(route)}" for route in wanted if route not in present]
    with open_netlink(netns_fd) as inside:
        end = inside.link(name)
        if end is None:
            return [*found, f"the pod has no device {name}"]
        if end.mac != lease.mac:
            found.append(f"{name} in the pod is another device")
        if not end.up:
            found.append(f"{name} in the pod is down")
        own = {entry.address for entry in inside.addresses() if entry.ifindex == end.index}
        lost = [address for address in lease.addresses if _raw(address) not in own]
        found += [f"{name} in the pod has not the address {_text(_raw(a))}" for a in lost]
        there = {(r.destination, r.prefix, r.gateway, r.ifindex) for r in inside.routes()}
        for route in pod_routes(lease, end.index, 0):
            if (route.destination, route.prefix, route.gateway, route.ifindex) not in there:
                found.append(f"the pod has no {_words(route)}")
    return found


def _text(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _words(route: Route) -> str:
    size = 4 if route.family == socket.AF_INET else 16
    target = _text(route.destination.ljust(size, b"\0"))
    return (
        f"route to {target}/{route.prefix}"
        if route.prefix
        else f"default route via {_text(route.gateway)}"
    )


def change_mtu(netlink: Netlink, lease: Lease, link: Link, mtu: int) -> None:
    """Changes the MTU of both ends and of the pod's default routes. The node's end is last, as a sign of completion.

    KernelError or OSError where the pod's namespace cannot be entered: nothing is changed then.
    """
    name = lease.attachment.ifname
    device_mtu = link_mtu(lease, mtu)
    with open_netlink(lease.netns) as inside:
        end = inside.link(name)
        if end is None or end.mac != lease.mac:
            raise KernelError("find device", f"{name} in {lease.netns}", 0)
        veth.set_mtu(inside, end.index, device_mtu)
        for route in pod_routes(lease, end.index, mtu):
            inside.replace_route(route)
    veth.set_mtu(netlink, link.index, device_mtu)
