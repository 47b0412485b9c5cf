# SPDX-License-Identifier: Apache-2.0
"""The content of `metrics`: packets and bytes by hook and verdict, summed over CPUs."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.verdict import Hook, Verdict


@dataclass(frozen=True, slots=True)
class Count:
    """How often one hook came to one verdict. Socket calls have no bytes."""

    hook: Hook
    verdict: Verdict
    packets: int
    bytes: int


def read_counts(metrics: Map) -> list[Count]:
    """Everything that was counted at least once."""
    found = []
    for hook in Hook:
        if hook == Hook.MAX:
            continue
        for verdict in Verdict:
            if verdict in (Verdict.MAX, Verdict.DROP):
                continue
            key = struct.pack("<I", hook * Verdict.MAX + verdict)
            values = [layout.Counter.unpack(raw) for raw in metrics.lookup_percpu(key)]
            packets = sum(value.packets for value in values)
            if packets:
                found.append(Count(hook, verdict, packets, sum(value.bytes for value in values)))
    return found
