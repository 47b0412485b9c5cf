# SPDX-License-Identifier: Apache-2.0
"""Which counters a packet has moved: all are read at once where the kernel can, else those of its hook."""

from __future__ import annotations

import ctypes
import struct

from kubypass.datapath import layout
from kubypass.datapath.counters import counter_index
from kubypass.kernel import bpf
from kubypass.model.verdict import Hook, Verdict


class Counting:
    """The map `metrics`, as it was before a packet and after it."""

    def __init__(self, metrics: bpf.Map) -> None:
        self._metrics = metrics
        self._size = layout.COUNTER_SIZE * bpf.possible_cpus()
        self._all: bytes | None = None
        """All values at the last look; None where none was taken, or the kernel has no batch for per-CPU arrays."""
        self._before = b""

    def begin(self, hook: Hook) -> None:
        """Remembers the counters of a hook."""
        self._all = self._all or read_all(self._metrics)
        self._before = self._rows(hook)

    def moved(self, hook: Hook) -> list[Verdict]:
        """The verdicts of the hook whose counters have gone up by one since."""
        if self._all is not None:
            self._all = read_all(self._metrics)
        after, size, found = self._rows(hook), self._size, []
        for verdict in range(Verdict.MAX):
            row = slice(verdict * size, (verdict + 1) * size)
            if self._before[row] != after[row]:
                assert _packets(after[row]) - _packets(self._before[row]) == 1
                found.append(Verdict(verdict))
        return found

    def _rows(self, hook: Hook) -> bytes:
        first = counter_index(hook, Verdict(0))
        if self._all is not None:
            return self._all[first * self._size : (first + Verdict.MAX) * self._size]
        keys = (struct.pack("<I", index) for index in range(first, first + Verdict.MAX))
        return b"".join(self._metrics.lookup(key) or b"" for key in keys)


def _packets(raw: bytes) -> int:
    """The sum over all CPUs."""
    size = layout.COUNTER_SIZE
    each = (raw[at : at + size] for at in range(0, len(raw), size))
    return sum(layout.Counter.unpack(one).packets for one in each)


def read_all(metrics: bpf.Map) -> bytes | None:
    """All values of all CPUs, in one call; None if the kernel has no such call (Linux 5.13 has it)."""
    entries = metrics.info.max_entries
    size = layout.COUNTER_SIZE * bpf.possible_cpus()
    keys, cursor = ctypes.create_string_buffer(4 * entries), ctypes.create_string_buffer(4)
    values = ctypes.create_string_buffer(size * entries)
    attributes = bpf.attributes_of(
        "=QQQQIIQQ",
        0,
        ctypes.addressof(cursor),
        ctypes.addressof(keys),
        ctypes.addressof(values),
        entries,
        metrics.fd,
        0,
        0,
    )
    # A kernel without this batch leaves the count as it was: only the result says that values came.
    return values.raw if bpf.call(bpf.MAP_LOOKUP_BATCH, attributes) == 0 else None
