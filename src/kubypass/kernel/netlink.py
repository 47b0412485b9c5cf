# SPDX-License-Identifier: Apache-2.0
"""rtnetlink(7): reads devices, addresses and routes of a network namespace, and changes routes.

Addresses are 4 or 16 bytes in network order. Devices are made in veth.py; monitor.py tells of changes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from kubypass.errors import KernelError
from kubypass.kernel import rtnetlink as rt

_HEADER = struct.Struct("=IHHII")
_NOBODY = (errno.ESRCH, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES)


class FrameHeader(StrEnum):
    """What stands in front of the IP header in a device's packets, as tc hooks see them."""

    ETHERNET = "Ethernet"
    NONE = "none"
    """The device carries bare IP packets: tun, WireGuard, ipip, sit, gre, ip6tnl, PPP."""
    OTHER = "other"
    """Another kind of header, or one whose length nobody tells."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network device."""

    index: int
    name: str
    """The name as Python has those of files: bytes that are not UTF-8 are lone surrogates (PEP 383)."""
    mac: bytes
    mtu: int
    up: bool
    peer_netns: int = -1
    """Our number of the network namespace of a veth's other end; negative where that is here, or not known."""
    header: FrameHeader = FrameHeader.ETHERNET
    kind: str = ""
    """The kernel's name for the kind of a virtual device: `veth`, `bridge`, `vrf`; empty for hardware."""
    master: int = 0
    """The index of the bridge, bond or VRF that the device is part of; 0 for none."""
    lower: int = 0
    """The index of the device below a VLAN or another virtual device; 0 for none, or where that is elsewhere."""


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of a device; `prefix` is the length of its network in bits."""

    ifindex: int
    address: bytes
    prefix: int


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route of the main table. The default route has prefix 0 and the destination b""."""

    destination: bytes
    prefix: int
    gateway: bytes
    ifindex: int
    family: int
    protocol: int = rt.PROTOCOL_BOOT
    source: bytes = b""
    """The source address of packets that the node itself sends; b"" leaves the choice to the kernel."""
    mtu: int = 0
    """The largest packet in bytes; 0 for the MTU of the device."""


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each message in what was received."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Packs one attribute of a message, with its padding."""
    return struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message by their kinds; where a kind comes twice, the last one counts."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def frame_header(kind: int, broadcast: bytes) -> FrameHeader:
    """The header by the ARPHRD_* number; a tunnel's `broadcast` is the address of its other end."""
    if kind in rt.WITH_ETHERNET_HEADER:
        return FrameHeader.ETHERNET
    # A GRE device without one other end gives each packet its outer headers before the hooks see it.
    if kind in rt.GRE_DEVICES and not _is_one_host(broadcast):
        return FrameHeader.OTHER
    return FrameHeader.NONE if kind in rt.WITHOUT_HEADER else FrameHeader.OTHER


def _is_one_host(address: bytes) -> bool:
    """Whether a tunnel's other end is one host, and neither unknown nor a multicast group."""
    return any(address) and not (len(address) == 4 and 224 <= address[0] < 240)


def _link(data: bytes) -> Link:
    _, kind, index, flags, _ = struct.unpack_from("=BxHiII", data)
    fields = attributes(data[16:])
    name = os.fsdecode(fields[rt.IFLA_IFNAME].rstrip(b"\0"))
    mtu: int = struct.unpack("=I", fields[rt.IFLA_MTU])[0]
    netns = fields.get(rt.IFLA_LINK_NETNSID)
    number = struct.unpack("=i", netns)[0] if netns else -1
    header = frame_header(kind, fields.get(rt.IFLA_BROADCAST, b""))
    mac, up = fields.get(rt.IFLA_ADDRESS, b""), bool(flags & rt.IFF_UP)
    info = attributes(fields.get(rt.IFLA_LINKINFO, b""))
    virtual = info.get(rt.IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    master: int = struct.unpack("=I", fields.get(rt.IFLA_MASTER, bytes(4)))[0]
    lower: int = struct.unpack("=I", fields.get(rt.IFLA_LINK, bytes(4)))[0]
    return Link(index, name, mac, mtu, up, number, header, virtual, master, lower)


def route_devices(fields: dict[int, bytes]) -> list[int]:
    """The devices by which a route leads: several where it has several next hops."""
    if rt.RTA_OIF in fields:
        return list(struct.unpack("=I", fields[rt.RTA_OIF]))
    hops, found = fields.get(rt.RTA_MULTIPATH, b""), []
    while len(hops) >= 8:  # struct rtnexthop
        length, index = struct.unpack_from("=HxxI", hops)
        found.append(index)
        hops = hops[max(8, (length + 3) & ~3) :]
    return found


def _route(data: bytes, wanted: int = 0) -> Route | None:
    """Reads a route; None for one that is not unicast, or that leads by several devices and not by the wanted one."""
    family, prefix, _, _, _, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", data)
    fields = attributes(data[12:])
    devices = route_devices(fields)
    if kind != rt.TYPE_UNICAST or not (wanted in devices if wanted else len(devices) == 1):
        return None
    metrics = attributes(fields.get(rt.RTA_METRICS, b""))
    mtu: int = struct.unpack("=I", metrics[rt.RTAX_MTU])[0] if rt.RTAX_MTU in metrics else 0
    target, gateway = fields.get(rt.RTA_DST, b""), fields.get(rt.RTA_GATEWAY, b"")
    source = fields.get(rt.RTA_PREFSRC, b"")
    return Route(target, prefix, gateway, wanted or devices[0], family, protocol, source, mtu)


class Netlink:
    """A netlink socket in the network namespace in which it was made; its protocol is rtnetlink by default."""

    def __init__(self, protocol: int = 0) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        if protocol == 0:
            self._socket.setsockopt(rt.SOL_NETLINK, rt.GET_STRICT_CHECK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
        """Sends one message; yields type and payload of each answer. OSError has the kernel's errno."""
        self._sequence += 1
        length = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags | rt.REQUEST, self._sequence, 0) + body)
        while True:
            for answer, payload in messages(self._socket.recv(1 << 18)):
                if answer == rt.DONE:
                    return
                if answer == rt.ERROR:
                    code: int = struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield answer, payload

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Sends one message that changes something, and waits for its answer. OSError has the kernel's errno."""
        for _ in self.request(kind, flags | rt.ACK, body):
            pass

    def links(self) -> list[Link]:
        """All devices."""
        found = []
        request = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        request += attribute(rt.IFLA_EXT_MASK, struct.pack("=I", rt.SKIP_STATISTICS))
        for _, data in self.request(rt.GET_LINK, rt.DUMP, request):
            found.append(_link(data))
        return found

    def link(self, name: str) -> Link | None:
        """The device of this name; None where there is none."""
        request = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        request += attribute(rt.IFLA_EXT_MASK, struct.pack("=I", rt.SKIP_STATISTICS))
        request += attribute(rt.IFLA_IFNAME, os.fsencode(name) + b"\0")
        try:
            for _, data in self.request(rt.GET_LINK, 0, request):
                return _link(data)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise KernelError("find device", name, error.errno or 0) from None
        return None

    def addresses(self) -> list[LinkAddress]:
        """All addresses of all devices, in both families."""
        found = []
        for _, data in self.request(rt.GET_ADDRESS, rt.DUMP, struct.pack("=BBBBi", 0, 0, 0, 0, 0)):
            _, prefix, _, _, index = struct.unpack_from("=BBBBi", data)
            fields = attributes(data[8:])
            address = fields.get(rt.IFA_LOCAL) or fields[rt.IFA_ADDRESS]
            found.append(LinkAddress(index, address, prefix))
        return found

    def routes(self, *, protocol: int = 0, device: int = 0) -> list[Route]:
        """The unicast routes of the main table, in both families: all, or those of one rtm_protocol or device."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._dump_routes(family, rt.TABLE_MAIN, protocol, device):
                route = _route(data) if data[4] == rt.TABLE_MAIN else None
                if route and protocol in (0, route.protocol) and device in (0, route.ifindex):
                    found.append(route)
        return found

    def _dump_routes(self, family: int, table: int, protocol: int, device: int) -> Iterator[bytes]:
        """The routes of one family that match; the kernel leaves out the others where it knows how."""
        request = struct.pack("=BBBBBBBBI", family, 0, 0, 0, table, protocol, 0, 0, 0)
        if device:
            request += attribute(rt.RTA_OIF, struct.pack("=I", device))
        try:
            for _, data in self.request(rt.GET_ROUTE, rt.DUMP, request):
                yield data
        except OSError as error:
            if error.errno != errno.ENOENT:  # the table is not there yet
                raise

    def has_global_route(self, device: int) -> bool:
        """Whether a unicast route of any table leads by the device to more than its own link.

        The kernel looks through all routes, and stops at the first answer, so this is for a socket of its own.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._dump_routes(family, 0, 0, device):
                target = attributes(data[12:]).get(rt.RTA_DST, b"")
                near = target[:1] >= b"\xe0" if family == socket.AF_INET else target[:1] >= b"\xfe"
                if data[7] == rt.TYPE_UNICAST and data[4] != rt.TABLE_LOCAL and not near:
                    return True
        return False

    def get_route(self, address: bytes, *, device: int = 0) -> Route | None:
        """The route that the kernel takes to an address (`ip route get`); None where it has none.

        With a device, it is the entry of the table that leads there by this device.
        """
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        flags = rt.ROUTE_MATCH if device else 0
        body = struct.pack("=BBBBBBBBI", family, 8 * len(address), 0, 0, 0, 0, 0, 0, flags)
        body += attribute(rt.RTA_DST, address)
        body += attribute(rt.RTA_OIF, struct.pack("=I", device)) if device else b""
        try:
            for _, data in self.request(rt.GET_ROUTE, 0, body):
                return _route(data, device)
        except OSError as error:
            if error.errno not in _NOBODY:
                raise KernelError("look up route", repr(address), error.errno or 0) from None
        return None

    def _route_body(self, route: Route) -> bytes:
        head = struct.pack(
            "=BBBBBBBBI",
            route.family,
            route.prefix,
            0,
            0,
            rt.TABLE_MAIN,
            route.protocol,
            rt.SCOPE_UNIVERSE
            if route.gateway or route.family == socket.AF_INET6
            else rt.SCOPE_LINK,
            rt.TYPE_UNICAST,
            0,
        )
        body = attribute(rt.RTA_OIF, struct.pack("=I", route.ifindex))
        if route.destination:
            body += attribute(rt.RTA_DST, route.destination)
        if route.gateway:
            body += attribute(rt.RTA_GATEWAY, route.gateway)
        if route.source:
            body += attribute(rt.RTA_PREFSRC, route.source)
        if route.mtu:
            body += attribute(rt.RTA_METRICS, attribute(rt.RTAX_MTU, struct.pack("=I", route.mtu)))
        return head + body

    def replace_route(self, route: Route) -> None:
        """Adds the route; a route to the same destination is replaced."""
        self._change("set", rt.NEW_ROUTE, rt.CREATE | rt.REPLACE, route)

    def delete_route(self, route: Route) -> None:
        """Removes the route; that there is none is fine."""
        try:
            self._change("delete", rt.DEL_ROUTE, 0, route)
        except KernelError as error:
            if error.errno != errno.ESRCH:
                raise

    def _change(self, verb: str, kind: int, flags: int, route: Route) -> None:
        try:
            self.change(kind, flags, self._route_body(route))
        except OSError as error:
            size = 4 if route.family == socket.AF_INET else 16
            target = socket.inet_ntop(route.family, route.destination.ljust(size, b"\0"))
            target = f"{target}/{route.prefix}"
            raise KernelError(f"{verb} route", target, error.errno or 0, "needs root") from None
