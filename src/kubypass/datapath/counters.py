# SPDX-License-Identifier: Apache-2.0
"""Reads `metrics`: packets and bytes by hook and verdict, summed over CPUs."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.verdict import Hook, Verdict


@dataclass(frozen=True, slots=True)
class Count:
    """How often one hook returned one verdict. Socket calls have no bytes."""

    hook: Hook
    verdict: Verdict
    packets: int
    bytes: int


def counter_index(hook: Hook, verdict: Verdict) -> int:
    """The index in `metrics`."""
    return hook * Verdict.MAX + verdict


def read_counts(metrics: Map, hooks: Iterable[Hook] = Hook) -> list[Count]:
    """Returns everything that was counted at least once, at these hooks."""
    found = []
    for hook in hooks:
        if hook == Hook.MAX:
            continue
        for verdict in Verdict:
            if verdict in (Verdict.MAX, Verdict.DROP):
                continue
            key = struct.pack("<I", counter_index(hook, verdict))
            values = [layout.Counter.unpack(raw) for raw in metrics.lookup_percpu(key)]
            packets = sum(value.packets for value in values)
            if packets:
                found.append(Count(hook, verdict, packets, sum(value.bytes for value in values)))
    return found


def drop_rows(counts: Iterable[Count]) -> list[dict[str, object]]:
    """The drops among them, as status shows them."""
    return [
        {
            "hook": count.hook.name.lower(),
            "reason": count.verdict.name.removeprefix("DROP_").lower(),
            "packets": count.packets,
            "bytes": count.bytes,
        }
        for count in counts
        if count.verdict > Verdict.DROP
    ]
