# SPDX-License-Identifier: Apache-2.0
"""The content of a small map that the agent knows as a whole: changed by differences only."""

from __future__ import annotations

from collections.abc import Mapping

from kubypass.kernel.bpf import Map


class Content:
    """One map. What is in it is read each time: somebody else may have changed it."""

    def __init__(self, target: Map) -> None:
        self._target = target

    def apply(self, wanted: Mapping[bytes, bytes]) -> int:
        """Makes the map hold just `wanted`; returns how many entries were written."""
        content = dict(self._target.items())
        changed = {key: value for key, value in wanted.items() if content.get(key) != value}
        gone = [key for key in content if key not in wanted]
        self._target.update_batch(b"".join(changed), b"".join(changed.values()), len(changed))
        self._target.delete_batch(b"".join(gone), len(gone))
        return len(changed) + len(gone)
