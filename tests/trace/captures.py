# SPDX-License-Identifier: Apache-2.0
"""Captures as other programs write them, made byte by byte from the formats' documents, and read back."""

from __future__ import annotations

import struct
from pathlib import Path

ETHERNET = 1


def pcap(
    frames: list[bytes], *, order: str = "<", nanoseconds: bool = False, link: int = ETHERNET
) -> bytes:
    """Packets a second apart, from second 1,000 and its 5th unit on."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for number, frame in enumerate(frames):
        out += struct.pack(f"{order}IIII", 1000 + number, 5, len(frame), len(frame)) + frame
    return out


def block(number: int, body: bytes, order: str = "<") -> bytes:
    """A block of pcapng, padded."""
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", number) + size + body + size


def pcapng(frames: list[bytes], order: str = "<") -> bytes:
    """A section with an interface of nanoseconds, a block of another type, and enhanced packet blocks."""
    section = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)
    out = b"\x0a\x0d\x0d\x0a" + block(0, section, order)[4:]
    resolution = struct.pack(f"{order}HHB3xHH", 9, 1, 9, 0, 0)
    out += block(1, struct.pack(f"{order}HHI", ETHERNET, 0, 0) + resolution, order)
    out += block(4, bytes(4), order)  # name resolution
    for number, frame in enumerate(frames):
        time_ns = (1000 + number) * 10**9 + 5
        head = struct.pack(
            f"{order}IIIII", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), len(frame)
        )
        out += block(6, head + frame, order)
    return out


def frames_of(path: Path) -> list[bytes]:
    """The packets of a pcap file of this machine's byte order with nanoseconds."""
    return frames_of_bytes(path.read_bytes())


def frames_of_bytes(raw: bytes) -> list[bytes]:
    """The packets of such a file."""
    assert raw[:4] == struct.pack("<I", 0xA1B23C4D)
    at, found = 24, []
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 8)
        found.append(raw[at + 16 : at + 16 + length])
        at += 16 + length
    return found
