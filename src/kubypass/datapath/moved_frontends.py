# SPDX-License-Identifier: Apache-2.0
"""Frontends of UDP that a service has taken over from another: datagrams go there at once, whatever their flow says.

The programs give a flow another backend only where its own is gone from its service; here that service lives on,
without the frontend. As with kube-proxy's clean-up of conntrack, flows move when the new owner has endpoints, and not
before.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kubypass.datapath import layout
from kubypass.model.address import UNSPECIFIED, Address, family
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import ServiceFlag

_PORT = struct.Struct(f">{layout.TUPLE_SIZE - 6}xHB3x")
"""Destination port and protocol of a struct tuple."""


class MovedFrontends:
    """Frontends whose flows have to be looked at, with the service that they belong to now."""

    def __init__(self) -> None:
        self._owners: dict[bytes, int] = {}
        self._ports: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._owners)

    def note(self, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> bool:
        """Entries of `services` as they are and as they will be; True if there are flows to look for."""
        found = False
        for key, value in after.items():
            frontend, service = layout.Frontend.unpack(key), layout.Service.unpack(value)
            if frontend.protocol != Protocol.UDP or not service.flags & ServiceFlag.HAS_ENDPOINTS:
                continue
            old = layout.Service.unpack(before[key]) if key in before else None
            if old and old.id == service.id and old.flags & ServiceFlag.HAS_ENDPOINTS:
                continue
            self._owners[key] = service.id
            self._ports.add(frontend.port)
            found = True
        return found

    def forget(self) -> None:
        """All flows have been looked at."""
        self._owners.clear()
        self._ports.clear()

    def flows(self, keys: bytes, values: bytes) -> list[bytes]:
        """Of a chunk of `flows`, the keys of those that have another service than their frontend."""
        found = []
        for at, (port, protocol) in enumerate(_PORT.iter_unpack(keys)):
            if port not in self._ports or protocol != Protocol.UDP:
                continue
            key = keys[at * layout.TUPLE_SIZE : (at + 1) * layout.TUPLE_SIZE]
            start = at * layout.FLOW_SIZE
            flow = layout.Flow.unpack(values[start : start + layout.FLOW_SIZE])
            if flow.service and self._owner(layout.Tuple.unpack(key)) not in (None, flow.service):
                found.append(key)
        return found

    def _owner(self, place: layout.Tuple) -> int | None:
        """Of the frontend that such a packet is for: its own address, or a NodePort."""
        any_address = UNSPECIFIED[family(Address(place.destination))]
        for address in (place.destination, any_address):
            frontend = layout.Frontend(address, place.destination_port, place.protocol)
            owner = self._owners.get(frontend.pack())
            if owner is not None:
                return owner
        return None
