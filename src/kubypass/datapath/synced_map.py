# SPDX-License-Identifier: Apache-2.0
"""A small map whose whole content the agent knows: only differences are written."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping

from kubypass.errors import KernelError
from kubypass.kernel.bpf import Map


class SyncedMap:
    """One map and the content that it should have."""

    def __init__(self, target: Map) -> None:
        self._target = target
        self._known: dict[bytes, bytes] | None = None

    def apply(
        self, wanted: Mapping[bytes, bytes], *, thorough: bool = True, keep_others: bool = False
    ) -> int:
        """Makes the map hold exactly `wanted`, or that and its other entries; returns how many were written.

        A thorough call reads the map first, since somebody else may have changed it. The others trust the last write.
        """
        known = self._known
        content = dict(self._target.items()) if thorough or known is None else known
        changed = {key: value for key, value in wanted.items() if content.get(key) != value}
        gone = [] if keep_others else [key for key in content if key not in wanted]
        self._known = None  # until all is written
        entries = b"".join(changed), b"".join(changed.values()), len(changed)
        try:
            self._target.update_batch(*entries)
        except KernelError as error:
            if error.errno != errno.E2BIG or not gone:
                raise
            self._target.delete_batch(b"".join(gone), len(gone))  # a full map: what goes makes room
            self._target.update_batch(*entries)
        self._target.delete_batch(b"".join(gone), len(gone))
        self._known = {**content, **wanted} if keep_others else dict(wanted)
        return len(changed) + len(gone)

    def lookup(self, key: bytes) -> bytes | None:
        """What the kernel finds for a key, which need not be that of an entry in a trie."""
        return self._target.lookup(key)

    def add(self, entries: Mapping[bytes, bytes]) -> None:
        """Writes these entries and keeps the others."""
        self._target.update_batch(b"".join(entries), b"".join(entries.values()), len(entries))
        if self._known is not None:
            self._known |= entries

    def remove(self, keys: Iterable[bytes]) -> None:
        """Removes these entries; a key that is not there is no error."""
        for key in keys:
            self._target.delete(key)
            if self._known is not None:
                self._known.pop(key, None)
