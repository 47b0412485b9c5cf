# SPDX-License-Identifier: Apache-2.0
"""UDP frontends that moved from one service to another: their flows are removed, so that datagrams go to the new owner.

The programs replace a flow's backend only when it has left its service. Here the old service still has the backend and
has lost the frontend. As in kube-proxy's clean-up of conntrack, flows are removed once the new owner has endpoints.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kubypass.datapath import layout
from kubypass.model.address import UNSPECIFIED, Address, family
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import ServiceFlag

_PORT_AT, _PROTOCOL_AT = layout.TUPLE_DESTINATION_PORT_AT, layout.TUPLE_PROTOCOL_AT
_PORT_AND_PROTOCOL = struct.Struct(
    f">{_PORT_AT}xH{_PROTOCOL_AT - _PORT_AT - 2}xB{layout.TUPLE_SIZE - _PROTOCOL_AT - 1}x"
)
"""Reads the destination port and the protocol of a struct tuple."""


class MovedFrontends:
    """Frontends whose flows have to be checked, and the service that each belongs to now."""

    def __init__(self) -> None:
        self._owners: dict[bytes, int] = {}
        self._ports: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._owners)

    def note(self, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> bool:
        """Takes in entries of `services` as they are and as they will be; returns whether flows have to be checked."""
        found = False
        for key, value in after.items():
            frontend, service = layout.TransportAddress.unpack(key), layout.Service.unpack(value)
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
        """Forgets all frontends: every flow has been checked."""
        self._owners.clear()
        self._ports.clear()

    def flows(self, keys: bytes, values: bytes) -> list[bytes]:
        """Returns the keys in a chunk of `flows` whose service is not the one that has their frontend now."""
        found = []
        for at, (port, protocol) in enumerate(_PORT_AND_PROTOCOL.iter_unpack(keys)):
            if port not in self._ports or protocol != Protocol.UDP:
                continue
            key = keys[at * layout.TUPLE_SIZE : (at + 1) * layout.TUPLE_SIZE]
            start = at * layout.FLOW_SIZE
            flow = layout.Flow.unpack(values[start : start + layout.FLOW_SIZE])
            if flow.service and self._owner(layout.Tuple.unpack(key)) not in (None, flow.service):
                found.append(key)
        return found

    def _owner(self, packet: layout.Tuple) -> int | None:
        """The service whose frontend such a packet is for: at its destination, or a NodePort."""
        any_address = UNSPECIFIED[family(Address(packet.destination))]
        for address in (packet.destination, any_address):
            frontend = layout.TransportAddress(address, packet.destination_port, packet.protocol)
            owner = self._owners.get(frontend.pack())
            if owner is not None:
                return owner
        return None
