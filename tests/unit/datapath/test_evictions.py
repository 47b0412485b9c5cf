# SPDX-License-Identifier: Apache-2.0
"""Living entries that are gone by the next pass were evicted; nothing else is counted."""

import pytest

from kubypass.datapath import layout
from kubypass.datapath.evictions import Evictions
from kubypass.datapath.sizes import kernel_sizes

SECOND = 10**9
PASS = 15 * SECOND
Entries = dict[int, int]
"""When entries expire, by their number."""


def key(number: int) -> bytes:
    return layout.Tuple(bytes(16), bytes(16), number % 60000 + 1, number // 60000 + 80, 6).pack()


def look(evictions: Evictions, entries: Entries, now: int) -> None:
    """A pass in chunks of 1000; buffers are longer than what they hold, as the kernel's are."""
    numbers = list(entries)
    for start in range(0, len(numbers), 1000):
        chunk = numbers[start : start + 1000]
        values = b"".join(
            layout.Flow(bytes(16), bytes(16), 1, 2, 3, 4, 1, 0, 0, entries[n], 0, 0).pack()
            for n in chunk
        )
        keys = b"".join(map(key, chunk)) + bytes(layout.TUPLE_SIZE)
        evictions.see(keys, values, len(chunk), now)
    evictions.end_pass(now)


def living(count: int) -> Entries:
    return dict.fromkeys(range(count), 3600 * SECOND)


def test_of_a_small_map_each_eviction_is_counted() -> None:
    evictions, entries = Evictions(4096), living(3000)
    look(evictions, entries, SECOND)
    look(evictions, {n: entries[n] for n in range(7, 3000)}, SECOND + PASS)
    assert (evictions.count, evictions.latest) == (7, 7)
    look(evictions, {n: entries[n] for n in range(7, 3000)}, SECOND + 2 * PASS)
    assert (evictions.count, evictions.latest) == (7, 0)


def test_of_a_large_map_a_sample_stands_for_all() -> None:
    evictions, entries = Evictions(1 << 20), living(200_000)
    look(evictions, entries, SECOND)
    look(evictions, {n: entries[n] for n in range(100_000, 200_000)}, SECOND + PASS)
    assert 90_000 < evictions.count < 110_000


@pytest.mark.parametrize("left", [1, PASS])
def test_what_expires_meanwhile_was_not_evicted(left: int) -> None:
    evictions = Evictions(4096)
    look(evictions, {1: SECOND + left}, SECOND)
    look(evictions, {}, SECOND + PASS)
    assert evictions.count == 0


def test_after_a_long_pass_the_sweep_may_have_removed_it() -> None:
    evictions = Evictions(4096)
    look(evictions, living(9), SECOND)
    look(evictions, {}, 100 * SECOND)
    assert evictions.count == 0


def test_a_first_pass_and_new_entries_say_nothing() -> None:
    evictions = Evictions(4096)
    look(evictions, {}, SECOND)
    look(evictions, living(500), SECOND + PASS)
    look(evictions, living(900), SECOND + 2 * PASS)
    assert evictions.count == 0


def test_maps_of_connections_have_room_for_what_cpus_take_to_themselves() -> None:
    sizes = {"flows": 2048, "transient_flows": 100, "services": 10}
    assert kernel_sizes(sizes, 4) == {"flows": 2688, "transient_flows": 740, "services": 10}
