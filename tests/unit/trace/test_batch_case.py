# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass.trace.batch_case import Case, parse_flow
from kubypass.trace.packets import Flow

FLOW = {
    "src_ip": "10.0.1.9",
    "src_kind": "pod",
    "proto": "udp",
    "dst_ip": "10.96.0.10",
    "dst_port": 53,
    "src_port": 1000,
}


def case(**changes: object) -> Case:
    return msgspec.convert({"flow": {**FLOW, **changes}}, Case)


def test_a_flow() -> None:
    source, destination = parse_address("10.0.1.9"), parse_address("10.96.0.10")
    assert parse_flow(case()) == Flow(source, 1000, destination, 53, Protocol.UDP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src_ip": "x"}, "flow.src_ip: 'x' is not an IP address"),
        ({"dst_ip": "::1"}, "expected addresses of one family"),
        ({"proto": "icmp"}, "flow.proto is 'icmp': expected TCP, UDP or SCTP"),
        ({"dst_port": 0}, "flow.dst_port is 0: expected 1 to 65535"),
        ({"src_port": 65536}, "flow.src_port is 65536: expected 1 to 65535"),
    ],
)
def test_what_is_wrong_with_a_flow_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_flow(case(**changes))
