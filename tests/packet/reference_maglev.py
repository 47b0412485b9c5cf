# SPDX-License-Identifier: Apache-2.0
"""Maglev once more in plain Python, from the words of ADR 13: no care for speed, and no code of `kubypass`.

A table is a function of names and weights; a connection's number is a function of its addresses and ports.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import struct
from collections.abc import Iterator
from fractions import Fraction

from tests.packet.raw import PROTOCOLS, Ends
from tests.packet.reference_objects import Backend

_MULTIPLIER, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
DARTS_PER_CELL = 4


def mapped(address: str) -> bytes:
    """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def number(seed: bytes, ends: Ends, protocol: str, *, source_alone: bool) -> int:
    """32 bits of a connection, or of its client."""
    words = mapped(ends.source) + mapped(ends.destination)
    words += struct.pack("!HHB3x", ends.source_port, ends.destination_port, PROTOCOLS[protocol])
    if source_alone:
        words = words[:16]
    state = int.from_bytes(hashlib.sha256(b"kubypass maglev" + seed).digest()[:8], "little")
    for (word,) in struct.iter_unpack("<I", words):
        state = (state ^ word) * _MULTIPLIER & _MASK
        state ^= state >> 32
    return state & 0xFFFFFFFF


def choose(
    seed: bytes, cells: int, found: dict[Backend, int], protocol: str, chance: int
) -> Backend:
    """The backend of `found` (with weights) that 32 bits select."""
    players = tuple(sorted((mapped(a), port, weight, a) for (a, port), weight in found.items()))
    names = tuple(
        (key + struct.pack("!HB", port, PROTOCOLS[protocol]), w) for key, port, w, _ in players
    )
    _, port, _, address = players[table(seed, cells, names)[chance * cells >> 32]]
    return address, port


@functools.cache
def table(seed: bytes, cells: int, names: tuple[tuple[bytes, int], ...]) -> tuple[int, ...]:
    """Positions by cell, for names with their weights."""
    owner = _hit(seed, cells, names)
    missing = _shares(cells, [weight for _, weight in names])
    for who in owner.values():
        missing[who] -= 1
    for cell in sorted(owner, reverse=True):
        if missing[owner[cell]] < 0:
            missing[owner.pop(cell)] += 1
    orders = [_order(seed, cells, name) for name, _ in names]
    while any(missing):
        for who, order in enumerate(orders):
            if missing[who]:
                owner[next(cell for cell in order if cell not in owner)] = who
                missing[who] -= 1
    return tuple(owner[cell] for cell in range(cells))


def _hit(seed: bytes, cells: int, names: tuple[tuple[bytes, int], ...]) -> dict[int, int]:
    """Whose dart was first, by cell."""
    total = sum(weight for _, weight in names)
    darts = []
    for who, (name, weight) in enumerate(names):
        count = DARTS_PER_CELL * cells * weight // total + 1
        for throw, cell in enumerate(_darts(seed, cells, name, count)):
            darts.append((Fraction(throw + 1, weight), who, cell))
    owner: dict[int, int] = {}
    for _, who, cell in sorted(darts):
        if cell < cells:
            owner.setdefault(cell, who)
    return owner


def _darts(seed: bytes, cells: int, name: bytes, count: int) -> Iterator[int]:
    width = 2 if cells < 1 << 16 else 4
    stream = hashlib.shake_128(seed + name).digest(8 + width * count)[8:]
    for at in range(0, len(stream), width):
        yield int.from_bytes(stream[at : at + width], "little") % (1 << cells.bit_length())


def _order(seed: bytes, cells: int, name: bytes) -> list[int]:
    at, step = struct.unpack("!II", hashlib.shake_128(seed + name).digest(8))
    return [(at + turn * (step % (cells - 1) + 1)) % cells for turn in range(cells)]


def _shares(cells: int, weights: list[int]) -> list[int]:
    rest = [Fraction((cells - len(weights)) * weight, sum(weights)) for weight in weights]
    shares = [1 + int(part) for part in rest]
    by_fraction = sorted(range(len(weights)), key=lambda who: int(rest[who]) - rest[who])
    for who in by_fraction[: cells - sum(shares)]:
        shares[who] += 1
    return shares
