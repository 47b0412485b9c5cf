# SPDX-License-Identifier: Apache-2.0
"""Tells that devices, addresses, routes or rules of a network namespace have changed, by rtnetlink(7).

A router may change a million routes in a minute. Its routes are looked at only as far as tells whether they matter;
where messages are lost, everything counts as changed, once.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Container
from dataclasses import dataclass

from kubypass.kernel import rtnetlink as rt
from kubypass.kernel.netlink import attributes, route_devices

_HEADER = struct.Struct("=IHHII")
_BUFFER = 1 << 16
_READS = 64
"""The buffers that one call reads at most, so that a flood does not hold up everything else."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What has changed since the last look."""

    devices: bool = False
    """Devices or addresses, or the rules by which tables are chosen."""
    routes: bool = False


class Monitor:
    """Watches a network namespace: `fd` becomes readable when something changes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        groups = rt.GROUP_LINK | rt.GROUP_IPV4_ADDRESS | rt.GROUP_IPV6_ADDRESS
        groups |= rt.GROUP_IPV4_ROUTE | rt.GROUP_IPV6_ROUTE | rt.GROUP_NEXTHOP
        self._socket.bind((0, groups | rt.GROUP_IPV4_RULE | rt.GROUP_IPV6_RULE))
        self._socket.setblocking(False)
        self.fd = self._socket.fileno()
        self._pods: Container[int] = ()
        self._settled: Container[int] = ()

    def expect(self, pods: Container[int], settled: Container[int]) -> None:
        """Takes the indexes of pods' devices, whose routes nobody waits for, and of devices that take part already."""
        self._pods, self._settled = pods, settled

    def read(self) -> Seen:
        """Reads what is there; afterwards `fd` is readable if there is more, or at the next change."""
        devices = routes = False
        for _ in range(_READS):
            try:
                data = self._socket.recv(_BUFFER)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: messages were lost
                devices = routes = True
                continue
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind not in (rt.NEW_ROUTE, rt.DEL_ROUTE):
                    devices = True
                elif not routes:
                    routes = self._matters(data[at + _HEADER.size : at + size])
                at += max(_HEADER.size, (size + 3) & ~3)
        return Seen(devices, routes)

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
