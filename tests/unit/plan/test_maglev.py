# SPDX-License-Identifier: Apache-2.0
"""Maglev tables: few cells move, shares are as weights say, and every node makes the same."""

from __future__ import annotations

import random
import zlib
from array import array
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubypass.model.address import Address
from kubypass.model.maglev import Maglev
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendState
from kubypass.plan.items import PlannedBackend
from kubypass.plan.maglev import table_id, table_of
from tests.packet.reference_maglev import table as reference

SEED = b"twelve bytes"
DEFAULT = Maglev(16381, SEED)


def backends(count: int, of: int = 0, weights: tuple[int, ...] = (1,)) -> list[PlannedBackend]:
    """Random backends in order of address; `of` tells sets apart."""
    dice = random.Random(of)
    made = (Address(bytes(10) + b"\xff\xff\x0a" + dice.randbytes(3)) for _ in range(count))
    return sorted(
        PlannedBackend(address, 8080, BackendState.ACTIVE, weight=dice.choice(weights))
        for address in made
    )


def owners(maglev: Maglev, some: list[PlannedBackend]) -> list[PlannedBackend]:
    """Backends by cell."""
    return [some[position] for position in table_of(maglev, Protocol.TCP, some)]


@pytest.mark.parametrize("of", range(4))
def test_removing_one_of_a_hundred_moves_few_others(of: int) -> None:
    all_, gone = backends(100, of), 37 * of % 100
    before, after = owners(DEFAULT, all_), owners(DEFAULT, all_[:gone] + all_[gone + 1 :])
    others = [(one, two) for one, two in zip(before, after, strict=True) if one != all_[gone]]
    moved = sum(one != two for one, two in others)
    assert moved / len(others) < 0.013
    assert all(two != all_[gone] for two in after)


@pytest.mark.parametrize(
    ("count", "cells"), [(2, 251), (10, 1021), (40, 4093), (100, 16381), (163, 16381)]
)
def test_shares_are_within_three_percent(count: int, cells: int) -> None:
    counts = Counter(table_of(Maglev(cells, SEED), Protocol.TCP, backends(count)))
    assert len(counts) == count
    assert all(abs(cells_of * count / cells - 1) < 0.03 for cells_of in counts.values())


def test_shares_follow_weights() -> None:
    some = backends(60, weights=(1, 2, 5))
    total = sum(one.weight for one in some)
    for one, cells in Counter(owners(DEFAULT, some)).items():
        assert abs(cells * total / one.weight / DEFAULT.cells - 1) < 0.03


def test_the_lightest_backend_has_a_cell_beside_the_heaviest() -> None:
    light, heavy = (one._replace(weight=w) for one, w in zip(backends(2), (1, 65535), strict=True))
    counts = Counter(owners(Maglev(251, SEED), [light, heavy]))
    assert counts == {light: 1, heavy: 250}


def test_more_backends_than_cells_have_one_cell_at_most() -> None:
    counts = Counter(table_of(Maglev(251, SEED), Protocol.TCP, backends(300)))
    assert set(counts.values()) == {1}
    assert len(counts) == 251


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 60), st.integers(0, 1000), st.sampled_from([(1,), (1, 2), (1, 3, 90)]),
    st.sampled_from([251, 509]), st.binary(min_size=12, max_size=12),
)  # fmt: skip
def test_tables_are_the_reference_s(
    count: int, of: int, weights: tuple[int, ...], cells: int, seed: bytes
) -> None:
    some = backends(count, of, weights)
    names = tuple((bytes(b.address) + b.port.to_bytes(2, "big") + b"\x06", b.weight) for b in some)
    assert table_of(Maglev(cells, seed), Protocol.TCP, some) == reference(seed, cells, names)


@pytest.mark.parametrize(("cells", "checksum"), [(16381, 3266449291), (131071, 2528365761)])
def test_another_version_makes_the_same_table(cells: int, checksum: int) -> None:
    """While a cluster is upgraded, nodes of two versions serve the same clients: what is here never changes."""
    table = table_of(Maglev(cells, SEED), Protocol.UDP, backends(7, weights=(1, 4)))
    assert zlib.crc32(array("H", table).tobytes()) == checksum


def test_the_number_of_a_table_tells_all_that_it_is_made_of() -> None:
    some, other = backends(3), backends(3, of=1)
    heavier = [some[0]._replace(weight=2), *some[1:]]
    asked = [
        (DEFAULT, Protocol.TCP, (some, [])),
        (DEFAULT, Protocol.UDP, (some, [])),
        (DEFAULT, Protocol.TCP, (other, [])),
        (DEFAULT, Protocol.TCP, (heavier, [])),
        (DEFAULT, Protocol.TCP, (some, some)),
        (DEFAULT, Protocol.TCP, (some[:2], some[2:])),
        (DEFAULT, Protocol.TCP, ([], some)),
        (Maglev(251, SEED), Protocol.TCP, (some, [])),
        (Maglev(16381, b"other seed 1"), Protocol.TCP, (some, [])),
    ]
    assert len({table_id(*one) for one in asked}) == len(asked)
    moved = [one._replace(state=BackendState.TERMINATING, lists=3) for one in some]
    assert table_id(*asked[0]) == table_id(DEFAULT, Protocol.TCP, (moved, [])), (
        "states do not matter"
    )
