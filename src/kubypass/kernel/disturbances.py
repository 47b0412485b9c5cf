# SPDX-License-Identifier: Apache-2.0
"""rtnetlink(7): tells when somebody switched forwarding off, or removed a route or a filter.

Writes to /proc/sys make no event of their own, but the kernel tells of `forwarding`, by whatever way it changed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from kubypass.kernel.netlink import attributes

_GROUP_TC, _GROUP_IPV4_ROUTE, _GROUP_IPV6_ROUTE = 1 << 3, 1 << 6, 1 << 10
_GROUP_IPV4_NETCONF, _GROUP_IPV6_NETCONF = 1 << 23, 1 << 24
_NEW_NETCONF, _NETCONF_FORWARDING = 80, 2
_DEL_ROUTE, _TABLE_MAIN = 25, 254
_FILTER_CHANGES = (37, 44, 45)  # DELQDISC, NEWTFILTER, DELTFILTER
_HEADER = struct.Struct("=IHHII")
_READ_BYTES = 1 << 16
_READS = 64
"""The buffers that one call reads at most, so that a flood does not hold up everything else."""


class Disturbances:
    """A socket in the network namespace in which it was made; `fd` is readable when something has come."""

    def __init__(self, *, route_protocol: int, filters: bool) -> None:
        """Routes count that have this protocol or lead to one host; `filters` where clsact filters are ours."""
        self._route_protocol = route_protocol
        groups = _GROUP_IPV4_NETCONF | _GROUP_IPV6_NETCONF | _GROUP_IPV4_ROUTE | _GROUP_IPV6_ROUTE
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, 0)
        self._socket.bind((0, groups | (_GROUP_TC if filters else 0)))
        self.fd = self._socket.fileno()

    def read(self) -> bool:
        """Takes in what has come; returns whether something may have to be put back."""
        found = False
        for _ in range(_READS):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost
                found = True
                continue
            found = found or any(self._counts(kind, body) for kind, body in _messages(data))
        return found

    def _counts(self, kind: int, body: bytes) -> bool:
        if kind == _NEW_NETCONF:
            value = attributes(body[4:]).get(_NETCONF_FORWARDING)
            return value is not None and struct.unpack("=i", value)[0] == 0
        if kind == _DEL_ROUTE:
            family, prefix, table, protocol = body[0], body[1], body[4], body[5]
            one_host = prefix == (32 if family == socket.AF_INET else 128)
            return table == _TABLE_MAIN and (protocol == self._route_protocol or one_host)
        return kind in _FILTER_CHANGES

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3
