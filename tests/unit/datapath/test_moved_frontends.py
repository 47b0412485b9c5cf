# SPDX-License-Identifier: Apache-2.0
"""Which flows have to leave when frontends of UDP get another service."""

from __future__ import annotations

import pytest

from kubypass.datapath import layout
from kubypass.datapath.moved_frontends import MovedFrontends
from kubypass.model.address import UNSPECIFIED, parse_address
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import ServiceFlag

VIP, NODE = parse_address("10.96.0.1"), parse_address("192.168.1.31")
SERVED, EMPTY = int(ServiceFlag.HAS_ENDPOINTS), 0


def entry(
    address: bytes, port: int, service: int, flags: int, protocol: int = Protocol.UDP
) -> dict[bytes, bytes]:
    key = layout.TransportAddress(address, port, protocol).pack()
    return {key: layout.Service(service, 0, 1, 1, flags, 0, 0, 0).pack()}


def flow(
    address: bytes, port: int, service: int, protocol: int = Protocol.UDP
) -> tuple[bytes, bytes]:
    client = parse_address("203.0.113.9")
    key = layout.Tuple(client, address, 4000, port, protocol).pack()
    return key, layout.Flow(client, NODE, 4000, 53, service, 1, 0, 0, 0, 1, 0, 0).pack()


@pytest.mark.parametrize(
    ("before", "after", "looks"),
    [
        (entry(VIP, 53, 1, SERVED), entry(VIP, 53, 2, SERVED), True),
        (entry(VIP, 53, 1, SERVED), entry(VIP, 53, 2, EMPTY), False),
        (entry(VIP, 53, 2, EMPTY), entry(VIP, 53, 2, SERVED), True),
        (entry(VIP, 53, 1, SERVED), entry(VIP, 53, 1, SERVED), False),
        ({}, entry(VIP, 53, 2, SERVED), True),
        ({}, entry(VIP, 53, 2, SERVED, Protocol.TCP), False),
    ],
    ids=["owner", "owner without endpoints", "endpoints come", "same", "new", "TCP"],
)
def test_when_flows_are_looked_at(
    before: dict[bytes, bytes], after: dict[bytes, bytes], looks: bool
) -> None:
    assert MovedFrontends().note(before, after) is looks


def test_flows_of_an_earlier_owner_leave_and_no_others() -> None:
    moved = MovedFrontends()
    moved.note({}, entry(VIP, 53, 2, SERVED) | entry(UNSPECIFIED[4], 30053, 3, SERVED))
    flows = [
        flow(VIP, 53, 1),
        flow(VIP, 53, 2),
        flow(VIP, 54, 1),
        flow(VIP, 53, 1, Protocol.TCP),
        flow(VIP, 53, 0),
        flow(NODE, 53, 1),
        flow(NODE, 30053, 1),
        flow(NODE, 30053, 3),
    ]
    keys, values = (b"".join(part) for part in zip(*flows, strict=True))
    assert moved.flows(keys, values) == [flows[0][0], flows[6][0]]
    moved.forget()
    assert not moved
    assert moved.flows(keys, values) == []
