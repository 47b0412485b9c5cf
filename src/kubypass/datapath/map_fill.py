# SPDX-License-Identifier: Apache-2.0
"""Counts the living entries of hash maps whose entries the programs make, a bounded number in each step.

No kernel that we support says how many entries a hash map has. A pass over `flows` takes eight steps, whatever its size
up to two million entries. Entries that have expired are not counted: their places are free for others.

Entries of `socket_peers` stay after their socket until they are evicted, so that map is always full one day; the number
says how many sockets were remembered, and is no reason for a problem.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Mapping

from kubypass.datapath import layout
from kubypass.datapath.evictions import Evictions
from kubypass.datapath.sizes import FLOW_MAPS
from kubypass.kernel.bpf import Map

_CHUNK = 8192
_STEPS = 8
_MOST = 262144
"""Entries that one step may read."""
_CLIENT_SERVICE = struct.Struct("<I")
COUNTED = (
    *FLOW_MAPS, "affinities", "fragments", "local_addresses", "foreign_sources", "socket_lb_off",
    "socket_peers",
)  # fmt: skip
_Chunk = tuple[bytes, bytes, int]
Affinities = Callable[[], Mapping[int, int]]
"""Seconds of session affinity by the identifiers of services."""


class MapFill:
    """Goes over the maps in turn."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._maps = {name: maps[name] for name in COUNTED}
        self._passes: dict[str, Iterator[_Chunk]] = {}
        self._seen = dict.fromkeys(COUNTED, 0)
        self.entries: dict[str, int] = dict.fromkeys(COUNTED, 0)
        """Living entries by map, as the last complete pass found them."""
        self.evictions = Evictions(maps["flows"].info.max_entries)

    def step(self, affinities: Affinities = dict) -> None:
        """Reads an eighth of each map at most."""
        for name, opened in self._maps.items():
            self._step(name, opened, affinities)

    def _step(self, name: str, opened: Map, affinities: Affinities) -> None:
        left = min(_MOST, max(_CHUNK, opened.info.max_entries // _STEPS))
        found = self._passes.setdefault(name, opened.chunks(_CHUNK))
        seconds = affinities() if name == "affinities" else {}
        while left > 0:
            chunk = next(found, None)
            if chunk is None:
                if name == "flows":
                    self.evictions.end_pass(time.monotonic_ns())
                self.entries[name], self._seen[name] = self._seen[name], 0
                del self._passes[name]
                return
            self._seen[name] += _living(name, chunk, time.monotonic_ns(), seconds)
            if name == "flows":
                self.evictions.see(*chunk, time.monotonic_ns())
            left -= chunk[2]


def _living(name: str, chunk: _Chunk, now: int, affinities: Mapping[int, int]) -> int:
    """How many entries of a chunk have not expired."""
    keys, values, count = chunk
    if name in FLOW_MAPS:
        return _unexpired(values, layout.FLOW_SIZE, layout.FLOW_EXPIRES_NS_AT, now)
    if name == "fragments":
        return _unexpired(values, layout.DATAGRAM_PORTS_SIZE, 0, now)
    if name != "affinities":
        return count
    used = memoryview(values).cast("Q")[:: layout.AFFINITY_SIZE // 8]
    size, at = layout.AFFINITY_CLIENT_SIZE, layout.AFFINITY_CLIENT_SIZE - _CLIENT_SERVICE.size
    services = (_CLIENT_SERVICE.unpack_from(keys, n * size + at)[0] for n in range(count))
    return sum(
        used_ns + affinities.get(service, 0) * 10**9 > now
        for used_ns, service in zip(used, services, strict=True)
    )


def _unexpired(values: bytes, size: int, at: int, now: int) -> int:
    expires = memoryview(values).cast("Q")[at // 8 :: size // 8]
    return sum(expires_ns > now for expires_ns in expires)
