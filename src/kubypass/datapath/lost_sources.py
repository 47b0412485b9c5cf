# SPDX-License-Identifier: Apache-2.0
"""Connections that are masqueraded with an address that the node no longer has: no answer reaches them any more.

They end: their entries go, so that the next connection gets another address. The client's entry of a TCP connection
stays for a while, closed: segments of it would leave with the client's own address otherwise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from struct import Struct

from kubypass.datapath import layout
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import FlowDirection, FlowState

_KEY = Struct(f"16s16s4xB{layout.TUPLE_SIZE - 37}x")
_VALUE = Struct(
    f"16s16s{layout.FLOW_DIRECTION_AT - 32}xB{layout.FLOW_SIZE - layout.FLOW_DIRECTION_AT - 1}x"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """What becomes of the entries of connections that have ended."""

    removed: list[bytes]
    """Keys."""
    closed: list[tuple[bytes, bytes]]
    """Keys with new values."""
    connections: int


def end_lost(keys: bytes, values: bytes, addresses: Collection[bytes], expires_ns: int) -> Ended:
    """Finds the connections, in a chunk of a map of flows, whose source is none of the node's `addresses`."""
    removed: list[bytes] = []
    closed: list[tuple[bytes, bytes]] = []
    connections = 0
    both = zip(_KEY.iter_unpack(keys), _VALUE.iter_unpack(values), strict=False)
    for at, (
        (source, destination, protocol),
        (new_source, new_destination, direction),
    ) in enumerate(both):
        if direction == FlowDirection.REPLY:
            lost = destination != new_destination and destination not in addresses
        else:
            lost = source != new_source and new_source not in addresses
        if not lost:
            continue
        key = keys[at * layout.TUPLE_SIZE : (at + 1) * layout.TUPLE_SIZE]
        connections += direction == FlowDirection.FORWARD
        if direction == FlowDirection.FORWARD and protocol == Protocol.TCP:
            flow = layout.Flow.unpack(values[at * layout.FLOW_SIZE : (at + 1) * layout.FLOW_SIZE])
            ended = flow._replace(
                state=FlowState.CLOSED, expires_ns=min(flow.expires_ns, expires_ns)
            )
            closed.append((key, ended.pack()))
        else:
            removed.append(key)
    return Ended(removed, closed, connections)
