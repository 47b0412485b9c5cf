# SPDX-License-Identifier: Apache-2.0
"""The content of a small map that the agent knows as a whole: changed by differences only."""

from __future__ import annotations

from collections.abc import Mapping

from kubypass.kernel.bpf import Map


class Content:
    """One map, and what is in it."""

    def __init__(self, target: Map) -> None:
        self._target = target
        self._content: dict[bytes, bytes] = dict(target.items())

    def apply(self, wanted: Mapping[bytes, bytes]) -> int:
        """Makes the map hold just `wanted`; returns how many entries were written."""
        changed = {key: value for key, value in wanted.items() if self._content.get(key) != value}
        gone = [key for key in self._content if key not in wanted]
        self._target.update_batch(b"".join(changed), b"".join(changed.values()), len(changed))
        self._target.delete_batch(b"".join(gone), len(gone))
        self._content = dict(wanted)
        return len(changed) + len(gone)
