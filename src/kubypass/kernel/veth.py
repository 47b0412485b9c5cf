# SPDX-License-Identifier: Apache-2.0
"""Pairs of devices (veth(4)), their addresses and neighbours, by rtnetlink(7). Nothing is run or waited for."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from kubypass.errors import KernelError
from kubypass.kernel.netlink import Netlink, attribute

_NEW_LINK, _DEL_LINK, _NEW_ADDRESS, _NEW_NEIGHBOUR = 16, 17, 20, 28
_CREATE, _EXCLUSIVE, _REPLACE = 0x400, 0x200, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _NO_DAD = 1, 2, 0x02
_NDA_DST, _NDA_LLADDR, _PERMANENT = 1, 2, 0x80
_UP = 1


class End(NamedTuple):
    """One end of a pair."""

    name: str
    mac: bytes


def _head(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def _end(end: End, mtu: int) -> bytes:
    name = attribute(_IFLA_IFNAME, end.name.encode() + b"\0")
    return name + attribute(_IFLA_MTU, struct.pack("=I", mtu)) + attribute(_IFLA_ADDRESS, end.mac)


def _family(address: bytes) -> int:
    return socket.AF_INET if len(address) == 4 else socket.AF_INET6


def add_pair(netlink: Netlink, here: End, there: End, netns: int, mtu: int) -> None:
    """Makes a pair, both down; the far end is in another network namespace (a descriptor) from the first moment."""
    peer = _head() + _end(there, mtu) + attribute(_IFLA_NET_NS_FD, struct.pack("=i", netns))
    data = attribute(_INFO_DATA, attribute(_VETH_PEER, peer))
    kind = attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, b"veth") + data)
    try:
        netlink.change(_NEW_LINK, _CREATE | _EXCLUSIVE, _head() + _end(here, mtu) + kind)
    except OSError as error:
        subject = f"veth {here.name} with {there.name}"
        raise KernelError("make", subject, error.errno or 0) from None


def set_up(netlink: Netlink, index: int) -> None:
    """Switches a device on."""
    _set(netlink, _head(index, _UP, _UP), f"device {index} up")


def set_mtu(netlink: Netlink, index: int, mtu: int) -> None:
    """The largest packet of a device, in bytes."""
    body = _head(index) + attribute(_IFLA_MTU, struct.pack("=I", mtu))
    _set(netlink, body, f"the MTU of device {index} to {mtu}")


def _set(netlink: Netlink, body: bytes, subject: str) -> None:
    try:
        netlink.change(_NEW_LINK, 0, body)
    except OSError as error:
        raise KernelError("set", subject, error.errno or 0) from None


def delete(netlink: Netlink, name: str) -> bool:
    """Removes a device and its other end; False where there is none."""
    body = _head() + attribute(_IFLA_IFNAME, name.encode() + b"\0")
    try:
        netlink.change(_DEL_LINK, 0, body)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return False
        raise KernelError("delete device", name, error.errno or 0) from None
    return True


def add_address(netlink: Netlink, index: int, address: bytes) -> None:
    """Gives a device an address, /32 or /128, that can be used at once: nobody is asked whether it is free."""
    head = struct.pack("=BBBBi", _family(address), 8 * len(address), _NO_DAD, 0, index)
    body = head + attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
    try:
        netlink.change(_NEW_ADDRESS, _CREATE | _REPLACE, body)
    except OSError as error:
        text = socket.inet_ntop(_family(address), address)
        raise KernelError("add address", text, error.errno or 0) from None


def set_neighbour(netlink: Netlink, index: int, address: bytes, mac: bytes) -> None:
    """Says for good who has an address on a device's link."""
    head = struct.pack("=BxxxiHBB", _family(address), index, _PERMANENT, 0, 0)
    body = head + attribute(_NDA_DST, address) + attribute(_NDA_LLADDR, mac)
    try:
        netlink.change(_NEW_NEIGHBOUR, _CREATE | _REPLACE, body)
    except OSError as error:
        text = socket.inet_ntop(_family(address), address)
        raise KernelError("set neighbour", text, error.errno or 0) from None
