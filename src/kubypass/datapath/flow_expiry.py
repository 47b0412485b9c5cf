# SPDX-License-Identifier: Apache-2.0
"""Removes connections from their maps a little at a time: expired, of moved UDP frontends, of a lost address.

The programs treat an expired entry as absent, so removing it only frees memory and need not be fast. An entry that
expired a minute ago will not be refreshed by a packet that is already on its way.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping

from kubypass.datapath import layout
from kubypass.datapath.lost_sources import end_lost
from kubypass.datapath.moved_frontends import MovedFrontends
from kubypass.kernel.bpf import Map

_GRACE_NS = 60_000_000_000
_CHUNK = 1024


def expiry_times(values: bytes) -> memoryview:
    """When each of these values of a map of flows expires, in nanoseconds of CLOCK_MONOTONIC."""
    return memoryview(values).cast("Q")[layout.FLOW_EXPIRES_NS_AT // 8 :: layout.FLOW_SIZE // 8]


class Sweep:
    """Goes over the maps again and again; each `step` looks at one chunk."""

    def __init__(self, *maps: Map) -> None:
        self._maps = maps
        self._pass: Iterator[tuple[Map, bytes, bytes, int]] = iter(())
        self._moved = MovedFrontends()
        self._addresses: frozenset[bytes] = frozenset()
        """The node's addresses, while connections with others are looked for."""
        self._closed_ns = 0
        self.removed = 0
        """Entries removed since the start."""
        self.lost_sources = 0
        """Connections ended since the start because the node lost the address that they had."""

    @property
    def urgent(self) -> bool:
        """True while a pass looks for more than expired entries."""
        return bool(self._moved or self._addresses)

    def check_sources(self, addresses: Collection[bytes], closed_ns: int) -> None:
        """Ends connections whose address is none of these of the node; the rest of a TCP connection has this time."""
        self._addresses, self._closed_ns = frozenset(addresses), closed_ns
        self._pass = self._chunks()

    def note(self, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]) -> None:
        """Takes in entries of `services`: as they are, and as they are about to be written."""
        if self._moved.note(before, after):
            self._pass = self._chunks()

    def step(self) -> bool:
        """Looks at the next chunk; returns False at the end of a pass."""
        chunk = next(self._pass, None)
        if chunk is None:
            self._pass = self._chunks()
            self._moved.forget()
            self._addresses = frozenset()
            return False
        flows, keys, values, count = chunk
        dead = self._expired(keys, values, count, time.monotonic_ns() - _GRACE_NS)
        if self._moved:
            dead += self._moved.flows(keys[: count * layout.TUPLE_SIZE], values)
        if self._addresses:
            whole = keys[: count * layout.TUPLE_SIZE]
            ended = end_lost(whole, values, self._addresses, time.monotonic_ns() + self._closed_ns)
            dead += ended.removed
            for key, value in ended.closed:
                flows.update(key, value)
            self.lost_sources += ended.connections
        flows.delete_batch(b"".join(dead), len(dead))
        self.removed += len(dead)
        return True

    def _chunks(self) -> Iterator[tuple[Map, bytes, bytes, int]]:
        for flows in self._maps:
            for keys, values, count in flows.chunks(_CHUNK):
                yield flows, keys, values, count

    @staticmethod
    def _expired(keys: bytes, values: bytes, count: int, before: int) -> list[bytes]:
        size = layout.TUPLE_SIZE
        return [
            keys[at * size : (at + 1) * size]
            for at, expires_ns in enumerate(expiry_times(values)[:count])
            if expires_ns < before
        ]
