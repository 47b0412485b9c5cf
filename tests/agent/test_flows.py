# SPDX-License-Identifier: Apache-2.0
"""Expired connections leave the map, a chunk at a time; live ones stay."""

from __future__ import annotations

import os
import time

import pytest

from kubypass.datapath import layout
from kubypass.datapath.flow_expiry import Sweep
from kubypass.datapath.pinned_state import count_entries
from kubypass.kernel.bpf import Map

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes a BPF map")
LRU_HASH = 9
MINUTE_NS = 60_000_000_000


def entry(number: int, expires_ns: int) -> tuple[bytes, bytes]:
    key = layout.Tuple(number.to_bytes(16, "big"), bytes(16), 1, 2, 6)
    return key.pack(), layout.Flow(
        bytes(16), bytes(16), 1, 2, 3, 4, 0, 0, 0, expires_ns, 0, 0
    ).pack()


def test_only_what_expired_a_minute_ago_goes() -> None:
    flows = Map.create(LRU_HASH, layout.TUPLE_SIZE, layout.FLOW_SIZE, 16384, "flows")
    now = time.monotonic_ns()
    ages = {"live": now + MINUTE_NS, "just expired": now - 1, "long expired": now - 2 * MINUTE_NS}
    for number in range(3000):
        flows.update(*entry(number, list(ages.values())[number % 3]))
    sweep = Sweep(flows)
    assert not sweep.step(), "a pass begins"
    steps = 1
    while sweep.step():
        steps += 1
    assert steps > 2, "a step is a part of the map"
    assert (sweep.removed, count_entries(flows)) == (1000, 2000)
    left = {layout.Flow.unpack(value).expires_ns for _, value in flows.items()}
    assert left == {ages["live"], ages["just expired"]}
