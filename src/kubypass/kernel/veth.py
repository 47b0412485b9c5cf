# SPDX-License-Identifier: Apache-2.0
"""Makes and changes veth(4) pairs, their addresses and neighbours, by rtnetlink(7)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import NamedTuple

from kubypass.errors import KernelError
from kubypass.kernel import rtnetlink as rt
from kubypass.kernel.netlink import Netlink, attribute


class End(NamedTuple):
    """One end of a pair, as it is to be made."""

    name: str
    mac: bytes


def _head(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def _end(end: End, mtu: int) -> bytes:
    name = attribute(rt.IFLA_IFNAME, os.fsencode(end.name) + b"\0")
    return (
        name + attribute(rt.IFLA_MTU, struct.pack("=I", mtu)) + attribute(rt.IFLA_ADDRESS, end.mac)
    )


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def add_pair(netlink: Netlink, here: End, there: End, netns: int, mtu: int) -> None:
    """Makes a pair, both ends down. The far end is made in the network namespace of the descriptor `netns`."""
    peer = _head() + _end(there, mtu) + attribute(rt.IFLA_NET_NS_FD, struct.pack("=i", netns))
    data = attribute(rt.IFLA_INFO_DATA, attribute(rt.VETH_INFO_PEER, peer))
    kind = attribute(rt.IFLA_LINKINFO, attribute(rt.IFLA_INFO_KIND, b"veth") + data)
    try:
        netlink.change(rt.NEW_LINK, rt.CREATE | rt.EXCLUSIVE, _head() + _end(here, mtu) + kind)
    except OSError as error:
        subject = f"veth {here.name} with {there.name}"
        raise KernelError("make", subject, error.errno or 0) from None


def set_up(netlink: Netlink, index: int) -> None:
    """Sets a device up."""
    _set(netlink, _head(index, rt.IFF_UP, rt.IFF_UP), f"device {index} up")


def set_mtu(netlink: Netlink, index: int, mtu: int) -> None:
    """Sets the MTU of a device, in bytes."""
    body = _head(index) + attribute(rt.IFLA_MTU, struct.pack("=I", mtu))
    _set(netlink, body, f"the MTU of device {index} to {mtu}")


def _set(netlink: Netlink, body: bytes, subject: str) -> None:
    try:
        netlink.change(rt.NEW_LINK, 0, body)
    except OSError as error:
        raise KernelError("set", subject, error.errno or 0) from None


def delete(netlink: Netlink, name: str) -> bool:
    """Removes a device and its other end; False where there is no such device."""
    body = _head() + attribute(rt.IFLA_IFNAME, os.fsencode(name) + b"\0")
    try:
        netlink.change(rt.DEL_LINK, 0, body)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise KernelError("delete device", name, error.errno or 0) from None
    return True


def add_address(netlink: Netlink, index: int, address: bytes) -> None:
    """Adds an address, /32 or /128, without duplicate address detection, so that it can be used at once."""
    head = struct.pack("=BBBBi", _family(address), 8 * len(address), rt.IFA_F_NODAD, 0, index)
    body = head + attribute(rt.IFA_LOCAL, address) + attribute(rt.IFA_ADDRESS, address)
    try:
        netlink.change(rt.NEW_ADDRESS, rt.CREATE | rt.REPLACE, body)
    except OSError as error:
        text = socket.inet_ntop(_family(address), address)
        raise KernelError("add address", text, error.errno or 0) from None


def set_neighbour(netlink: Netlink, index: int, address: bytes, mac: bytes) -> None:
    """Adds a permanent neighbour: the MAC address of an address on a device's link."""
    head = struct.pack("=BxxxiHBB", _family(address), index, rt.NUD_PERMANENT, 0, 0)
    body = head + attribute(rt.NDA_DST, address) + attribute(rt.NDA_LLADDR, mac)
    try:
        netlink.change(rt.NEW_NEIGHBOUR, rt.CREATE | rt.REPLACE, body)
    except OSError as error:
        text = socket.inet_ntop(_family(address), address)
        raise KernelError("set neighbour", text, error.errno or 0) from None
