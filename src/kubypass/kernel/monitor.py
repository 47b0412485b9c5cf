# SPDX-License-Identifier: Apache-2.0
"""Tells that a network namespace has changed, by rtnetlink(7): its devices, addresses, routes or rules.

It also tells that somebody has switched forwarding off, or removed a route or a filter of ours. Writes to /proc/sys
make no event of their own, but the kernel tells of `forwarding`, by whatever way it changed.

A router may change a million routes in a minute. Its routes are looked at only as far as tells whether they matter;
where messages are lost, everything counts as changed, once.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

from kubypass.kernel import rtnetlink as rt
from kubypass.kernel.netlink import attributes, messages, route_devices

_BUFFER = 1 << 16
_RECEIVE_BUFFER_FORCE = 33
_ROOM = 1 << 23
_NOT_OF_DEVICES = rt.OF_TC | rt.OF_NETCONF
_HARMLESS = ((rt.NETCONFA_FORWARDING, 1), (rt.NETCONFA_RP_FILTER, 2))
"""Values that need no look: forwarding is on, and a filter is loose, whatever the others are."""
_READS = 64
"""The buffers that one call reads at most, so that a flood does not hold up everything else."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What has changed since the last look."""

    devices: bool = False
    """Devices or addresses, or the rules by which tables are chosen."""
    routes: bool = False
    sysctls: bool = False
    """Whether forwarding or a reverse path filter may have to be put back."""
    undone: bool = False
    """Whether something else of ours was removed."""


class Monitor:
    """Watches a network namespace: `fd` becomes readable when something changes."""

    def __init__(self, *, route_protocol: int, filters: bool) -> None:
        """Routes are ours that have this protocol or lead to one host; `filters` where clsact filters are ours."""
        self._route_protocol = route_protocol
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        with suppress(
            PermissionError
        ):  # the usual room fills up in a flood, and then everything counts as changed
            self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _ROOM)
        groups = rt.GROUP_LINK | rt.GROUP_IPV4_ADDRESS | rt.GROUP_IPV6_ADDRESS
        groups |= rt.GROUP_IPV4_ROUTE | rt.GROUP_IPV6_ROUTE | rt.GROUP_NEXTHOP
        groups |= rt.GROUP_IPV4_RULE | rt.GROUP_IPV6_RULE
        groups |= rt.GROUP_IPV4_NETCONF | rt.GROUP_IPV6_NETCONF
        self._socket.bind((0, groups | (rt.GROUP_TC if filters else 0)))
        self._socket.setblocking(False)
        self.fd = self._socket.fileno()
        self._pods: Container[int] = ()
        self._settled: Container[int] = ()

    def expect(self, pods: Container[int], settled: Container[int]) -> None:
        """Takes the indexes of pods' devices, whose routes nobody waits for, and of devices that take part already."""
        self._pods, self._settled = pods, settled

    def read(self) -> Seen:
        """Reads what is there; afterwards `fd` is readable if there is more, or at the next change."""
        devices = routes = sysctls = undone = False
        for _ in range(_READS):
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost
                devices = routes = sysctls = undone = True
                continue
            for kind, body in messages(data):
                if kind in (rt.NEW_ROUTE, rt.DEL_ROUTE):
                    routes = routes or self._matters(body)
                elif kind not in _NOT_OF_DEVICES:
                    devices = True
                sysctls = sysctls or _concerns_sysctls(kind, body)
                undone = undone or self._undoes(kind, body)
        return Seen(devices, routes, sysctls, undone)

    def _undoes(self, kind: int, body: bytes) -> bool:
        """Whether the message tells that something of ours was removed."""
        if kind == rt.DEL_ROUTE:
            family, prefix, table, protocol = body[0], body[1], body[4], body[5]
            one_host = prefix == (32 if family == socket.AF_INET else 128)
            return table == rt.TABLE_MAIN and (protocol == self._route_protocol or one_host)
        return kind in (rt.DEL_QDISC, rt.NEW_FILTER, rt.DEL_FILTER)

    def _matters(self, route: bytes) -> bool:
        """Whether a route may change by which devices others are reached.

        Routes of the local table come with addresses. What a router learns is behind a gateway on our link, so only
        its default routes matter, and those by a device that takes no part yet.
        """
        _, prefix, _, _, table, protocol, _, kind, _ = struct.unpack_from("=BBBBBBBBI", route)
        if table == rt.TABLE_LOCAL or kind != rt.TYPE_UNICAST:
            return False
        devices = route_devices(attributes(route[12:]))
        if devices and all(index in self._pods for index in devices):
            return False
        if prefix and protocol in rt.PROTOCOLS_OF_ROUTERS:
            return any(index not in self._settled for index in devices)
        return True

    def close(self) -> None:
        """Stops watching."""
        self._socket.close()


def _concerns_sysctls(kind: int, body: bytes) -> bool:
    """Whether a sysctl may be wrong now. The kernel tells of each that has changed, and of those of new devices."""
    if kind != rt.NEW_NETCONF:
        return False
    fields = attributes(body[4:])
    return any(
        name in fields and struct.unpack("=i", fields[name])[0] != value
        for name, value in _HARMLESS
    )
