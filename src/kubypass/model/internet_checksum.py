# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum."""

from __future__ import annotations

import struct


def internet_checksum(data: bytes) -> int:
    """The checksum of RFC 1071, as a number; an odd number of bytes is padded with zero."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
