# SPDX-License-Identifier: Apache-2.0
"""Asks the kernel which routes lead by a device, without reading its tables: a router has a million routes."""

from __future__ import annotations

import socket

from kubypass.kernel.netlink import Link, Netlink

_FAR = (
    socket.inet_pton(socket.AF_INET, "198.41.0.4"),
    socket.inet_pton(socket.AF_INET6, "2001:503:ba3e::2:30"),
)
"""Addresses far away, to which a node has no route but the default: a.root-servers.net. Nothing is sent there."""


class DefaultRoutes:
    """The answers for one look at the node; each device is asked for once."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._default: dict[int, bool] = {}

    def has_default_route(self, link: Link) -> bool:
        """Whether a default route, in whatever place, leads by the device."""
        if link.index not in self._default:
            found = (self._netlink.get_route(far, device=link.index) for far in _FAR)
            self._default[link.index] = any(found)
        return self._default[link.index]

    def has_global_route(self, link: Link) -> bool:
        """Whether a route of any table leads by the device beyond its own link."""
        with Netlink() as netlink:
            return netlink.has_global_route(link.index)
