# SPDX-License-Identifier: Apache-2.0
"""Test runs take a packet of a page at most. A longer one is run without the end of its payload, and gets it back.

Only the length in the IP header changes meanwhile, and its checksum with it. The transport's checksum stays that of the
whole packet: programs change it by differences (RFC 1624).
"""

from __future__ import annotations

import struct
from typing import Final

LONGEST: Final = 3500
"""What a test run takes for certain: a page, less what the kernel needs around the packet."""
_SHORT = 1400
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_SCTP = 132
"""Its checksum, a CRC, depends on how far the end is."""


def shorten(frame: bytes) -> tuple[bytes, int]:
    """Returns the frame with less payload, and how many bytes it lacks: none where it cannot be shortened."""
    cut = len(frame) - _SHORT
    kind = frame[12:14]
    if kind == _IPV4 and frame[23] != _SCTP:
        return _with_length(frame[:_SHORT], 16, -cut, checksum_at=24), cut
    if kind == _IPV6 and frame[20] != _SCTP and struct.unpack_from("!H", frame, 18)[0] > cut:
        return _with_length(frame[:_SHORT], 18, -cut), cut
    return frame, 0


def lengthen(short: bytes, frame: bytes, cut: int) -> bytes:
    """Gives the payload of the whole frame back to what the program made of the short one."""
    tail = frame[len(frame) - cut :]
    if short[12:14] == _IPV4:
        return _with_length(short, 16, cut, checksum_at=24) + tail
    return _with_length(short, 18, cut) + tail


def _with_length(frame: bytes, at: int, more: int, checksum_at: int = 0) -> bytes:
    changed = bytearray(frame)
    (before,) = struct.unpack_from("!H", frame, at)
    after = (before + more) & 0xFFFF
    struct.pack_into("!H", changed, at, after)
    if checksum_at:
        (sum_,) = struct.unpack_from("!H", frame, checksum_at)
        total = (~sum_ & 0xFFFF) + (~before & 0xFFFF) + after
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        struct.pack_into("!H", changed, checksum_at, ~total & 0xFFFF)
    return bytes(changed)
