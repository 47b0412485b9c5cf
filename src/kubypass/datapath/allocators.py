# SPDX-License-Identifier: Apache-2.0
"""Allocators of identifiers and of ranges. What was released is used again as late as possible."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque


class Full(Exception):
    """Nothing is left to allocate."""


class IdAllocator:
    """Allocates identifiers `first` .. `end - 1`, one at a time."""

    def __init__(self, first: int, end: int) -> None:
        self._first = self._next = first
        self._end = end
        self._free: deque[int] = deque()

    @property
    def in_use(self) -> int:
        """How many identifiers are allocated."""
        return self._next - self._first - len(self._free)

    def reserve(self, used: set[int]) -> None:
        """Marks identifiers as in use. Call it once, before the first `take`."""
        if not used:
            return
        highest = max(used) + 1
        self._free.extend(n for n in range(self._next, highest) if n not in used)
        self._next = highest

    def take(self) -> int:
        """Returns a free identifier, preferably one that was never used; raises Full."""
        if self._next < self._end:
            self._next += 1
            return self._next - 1
        if not self._free:
            raise Full
        return self._free.popleft()

    def release(self, number: int) -> None:
        """Makes an identifier free again."""
        self._free.append(number)


class RangeAllocator:
    """Allocates contiguous ranges of 0 .. capacity - 1. A released range waits for `settle` before it is used again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._starts = [0]
        self._sizes = [capacity]
        self._waiting: list[tuple[int, int]] = []

    @property
    def in_use(self) -> int:
        """How much of the capacity is allocated, or waits for `settle`."""
        return self._capacity - sum(self._sizes)

    def reserve(self, used: list[tuple[int, int]]) -> None:
        """Marks ranges (start, size) as in use. Call it once, before the first `take`."""
        capacity, at = self._sizes[0], 0
        self._starts, self._sizes = [], []
        for start, size in sorted(set(used)):
            if start > at:
                self._starts.append(at)
                self._sizes.append(start - at)
            at = max(at, start + size)
        if at < capacity:
            self._starts.append(at)
            self._sizes.append(capacity - at)

    def take(self, size: int) -> int:
        """Returns the start of the first free range that has room for `size`; raises Full."""
        for index, available in enumerate(self._sizes):
            if available < size:
                continue
            start = self._starts[index]
            if available == size:
                del self._starts[index], self._sizes[index]
            else:
                self._starts[index] += size
                self._sizes[index] -= size
            return start
        raise Full

    def release(self, start: int, size: int) -> None:
        """Makes a range free after the next `settle`."""
        if size:
            self._waiting.append((start, size))

    def settle(self) -> None:
        """Makes released ranges usable: whoever was reading them is done."""
        for start, size in self._waiting:
            self._insert(start, size)
        self._waiting.clear()

    def _insert(self, start: int, size: int) -> None:
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and start + size == self._starts[index]:
            size += self._sizes[index]
            del self._starts[index], self._sizes[index]
        if index and self._starts[index - 1] + self._sizes[index - 1] == start:
            self._sizes[index - 1] += size
            return
        self._starts.insert(index, start)
        self._sizes.insert(index, size)
