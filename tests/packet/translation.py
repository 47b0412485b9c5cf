# SPDX-License-Identifier: Apache-2.0
"""A packet to a service and what it becomes, as whole packets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from tests.packet.lab import REDIRECT, Lab
from tests.packet.packets import Addresses, Flow, segment


def follow(
    lab: Lab,
    who: Addresses,
    program: str,
    sent: Flow,
    expected: Flow,
    where: Mapping[str, Any],
    **options: Any,
) -> None:
    """One packet in, one whole packet out."""
    result = lab.run(program, segment(who, sent, **options))
    assert result.code == REDIRECT, result.counted
    assert result.packet == bytes(segment(who, expected, **{**options, **where}))


def reply_flags(protocol: str) -> dict[str, str]:
    return {"protocol": protocol, "flags": "SA"}


def destination(packet: bytes) -> str:
    return str((IP if packet[12:14] == b"\x08\x00" else IPv6)(packet[14:]).dst)


def ports(packet: bytes) -> tuple[int, int]:
    parsed = (IP if packet[12:14] == b"\x08\x00" else IPv6)(packet[14:])
    layer = parsed[TCP] if TCP in parsed else parsed[UDP]
    return layer.sport, layer.dport
