# SPDX-License-Identifier: Apache-2.0
"""Connections that are masqueraded with an address which the node has lost."""

from __future__ import annotations

from kubypass.datapath import layout
from kubypass.datapath.lost_sources import end_lost
from kubypass.model.address import Address, parse_address
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import FlowDirection, FlowState

POD, SERVER = parse_address("10.244.0.7"), parse_address("203.0.113.9")
OURS, LOST = parse_address("192.168.1.31"), parse_address("192.168.1.99")
LATE = 10**12


def connection(source: Address, protocol: int) -> list[tuple[bytes, bytes]]:
    """Both entries of a pod's connection that leaves with this source."""
    return [
        (
            layout.Tuple(POD, SERVER, 4000, 443, protocol).pack(),
            layout.Flow(
                source, SERVER, 4000, 443, 0, 0, 1, FlowDirection.FORWARD, 0, LATE, 0, 0
            ).pack(),
        ),
        (
            layout.Tuple(SERVER, source, 443, 4000, protocol).pack(),
            layout.Flow(SERVER, POD, 443, 4000, 0, 0, 1, FlowDirection.REPLY, 0, LATE, 0, 0).pack(),
        ),
    ]


def ended(
    flows: list[tuple[bytes, bytes]], expires_ns: int = 5
) -> tuple[list[bytes], list[bytes], int]:
    keys, values = (b"".join(part) for part in zip(*flows, strict=True))
    found = end_lost(keys, values, {bytes(OURS)}, expires_ns)
    for _, value in found.closed:
        flow = layout.Flow.unpack(value)
        assert (flow.state, flow.expires_ns, flow.source) == (FlowState.CLOSED, expires_ns, LOST)
    return found.removed, [key for key, _ in found.closed], found.connections


def test_what_keeps_its_address_stays() -> None:
    plain = connection(POD, Protocol.UDP)
    assert ended([*connection(OURS, Protocol.TCP), *connection(OURS, Protocol.UDP), *plain]) == (
        [],
        [],
        0,
    )


def test_datagrams_get_another_address_with_the_next_one() -> None:
    lost = connection(LOST, Protocol.UDP)
    kept = connection(OURS, Protocol.UDP)
    assert ended([*kept, *lost]) == ([key for key, _ in lost], [], 1)


def test_a_tcp_connection_is_closed_and_its_segments_keep_the_address() -> None:
    """They would leave with the pod's own otherwise; a SYN opens another connection."""
    (forward, reply) = connection(LOST, Protocol.TCP)
    assert ended([forward, reply, *connection(OURS, Protocol.TCP)]) == ([reply[0]], [forward[0]], 1)


def test_the_backend_of_a_service_is_no_address_of_the_node() -> None:
    """The reply of a connection without SNAT has the client's address as its destination."""
    key = layout.Tuple(POD, SERVER, 8080, 5000, Protocol.TCP).pack()
    value = layout.Flow(
        OURS, SERVER, 30080, 5000, 3, 1, 1, FlowDirection.REPLY, 0, LATE, 0, 0
    ).pack()
    assert ended([(key, value)]) == ([], [], 0)
