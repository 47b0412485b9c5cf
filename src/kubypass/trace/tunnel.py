# SPDX-License-Identifier: Apache-2.0
"""Packets of DSR in Geneve, as bpf/geneve.h makes and takes them: what is inside, and between which nodes they go."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Final

from kubypass.node.dsr_tunnel import GENEVE_PORT

_ETHERNET: Final = 14
_IP_BYTES: Final = {0x0800: 20, 0x86DD: 40}
_VALUE_WORDS: Final = {0x0800: 2, 0x86DD: 5}
"""The option's length: an address, a port and two bytes of zero."""
_UDP = 17


def inside_tunnel(frame: bytes) -> bytes:
    """The frame, or that which it carries in a tunnel, with the outer frame's MAC addresses."""
    kind = _kind(frame)
    if not kind:
        return frame
    return frame[:_ETHERNET] + frame[_start(kind) :]


def tunnel_end(frame: bytes) -> str:
    """The node to which the frame goes in a tunnel; empty where it is in none."""
    kind = _kind(frame)
    at, size = {0x0800: (30, 4), 0x86DD: (38, 16)}.get(kind, (0, 0))
    return str(ip_address(frame[at : at + size])) if kind else ""


def _start(kind: int) -> int:
    """Where the packet inside begins: behind UDP's header, Geneve's, the option and an Ethernet header."""
    return _ETHERNET + _IP_BYTES[kind] + 8 + 8 + 4 + 4 * _VALUE_WORDS[kind] + _ETHERNET


def _kind(frame: bytes) -> int:
    """The EtherType of a frame that has a tunnel with the option, which is that of what is inside; else 0."""
    if len(frame) < _ETHERNET:
        return 0
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind not in _IP_BYTES or len(frame) < _start(kind):
        return 0
    protocol = frame[23] if kind == 0x0800 else frame[20]
    if protocol != _UDP or (kind == 0x0800 and frame[14] != 0x45):
        return 0
    port, _, _, words, _, ethernet, _, option, value = struct.unpack_from(
        "!HHHBBHIHxB", frame, _ETHERNET + _IP_BYTES[kind] + 2
    )
    expected = (GENEVE_PORT, _VALUE_WORDS[kind] + 1, 0x6558, 0x014B, _VALUE_WORDS[kind])
    return kind if (port, words, ethernet, option, value) == expected else 0
