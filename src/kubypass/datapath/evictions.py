# SPDX-License-Identifier: Apache-2.0
"""Counts connections that the kernel has evicted from `flows` while they lived; it says nothing of them itself.

Each pass over the map remembers living entries. Those that are gone in the next one, although they had not expired,
were evicted: only the sweep removes others, and only a minute after they expired. Of a large map, a sample stands for
all; it is drawn by the ports of connections.
"""

from __future__ import annotations

from kubypass.datapath import layout
from kubypass.datapath.flow_expiry import expiry_times

_SAMPLE = 16384
"""About how many entries are remembered."""
_LONGEST_NS = 60 * 10**9
"""A longer pass proves nothing: the sweep may have removed an entry that was alive in the pass before."""
_PORTS_AT, _WORDS = layout.TUPLE_DESTINATION_PORT_AT // 4, layout.TUPLE_SIZE // 4
_MIX = 0x9E3779B1
"""Spreads the ports over 32 bits (Fibonacci hashing)."""


class Evictions:
    """Compares each pass over `flows` with the one before."""

    def __init__(self, size: int) -> None:
        """`size` is the map's, in entries."""
        self._weight = max(1, size // _SAMPLE)
        self._limit = (1 << 32) // self._weight
        self._before: dict[bytes, int] = {}
        self._living: dict[bytes, int] = {}
        self._present: set[bytes] = set()
        self._ended_ns = 0
        self.count = 0
        """Entries evicted since the start, about."""
        self.latest = 0
        """Entries evicted between the last two passes, about."""

    def see(self, keys: bytes, values: bytes, count: int, now_ns: int) -> None:
        """Takes in the next chunk of a pass."""
        size = layout.TUPLE_SIZE
        ports = memoryview(keys[: count * size]).cast("I")[_PORTS_AT::_WORDS]
        expires, limit = expiry_times(values), self._limit
        for number, pair in enumerate(ports):
            if (pair * _MIX) & 0xFFFFFFFF < limit:
                key = keys[number * size : (number + 1) * size]
                self._present.add(key)
                if expires[number] > now_ns:
                    self._living[key] = expires[number]

    def end_pass(self, now_ns: int) -> None:
        """The pass has seen the whole map."""
        gone = [
            key
            for key, expires in self._before.items()
            if expires > now_ns and key not in self._present
        ]
        self.latest = len(gone) * self._weight if now_ns - self._ended_ns < _LONGEST_NS else 0
        self.count += self.latest
        self._before, self._living, self._present = self._living, {}, set()
        self._ended_ns = now_ns
