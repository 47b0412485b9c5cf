# SPDX-License-Identifier: Apache-2.0
"""Entries of an earlier version's structs as this version's, by the names of their fields."""

from __future__ import annotations

import struct

import pytest

from kubypass.datapath.map_upgrade import Incompatible, conversion
from kubypass.kernel.btf import Member, Struct


def made(size: int, *fields: tuple[str, int, int]) -> Struct:
    """A struct of integers: name, offset and size of each field."""
    members = (Member(name, f"__u{8 * length}", at, length, 1) for name, at, length in fields)
    return Struct("thing", size, tuple(members))


OLD = made(8, ("first", 0, 4), ("second", 4, 2), ("pad", 6, 2))
VALUES = struct.pack("<IHHIHH", 1, 2, 0xFFFF, 3, 4, 0xFFFF)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(OLD, VALUES, id="the same"),
        pytest.param(
            made(12, ("first", 0, 4), ("second", 4, 2), ("third", 8, 4)),
            struct.pack("<IHHIIHHI", 1, 2, 0, 0, 3, 4, 0, 0),
            id="a field more, at the end",
        ),
        pytest.param(
            made(16, ("third", 0, 8), ("first", 8, 4), ("second", 12, 2), ("pad", 14, 2)),
            struct.pack("<QIHHQIHH", 0, 1, 2, 0, 0, 3, 4, 0),
            id="a field more, before the others",
        ),
        pytest.param(
            made(8, ("second", 0, 2), ("first", 4, 4)),
            struct.pack("<HHIHHI", 2, 0, 1, 4, 0, 3),
            id="another order",
        ),
        pytest.param(made(2, ("second", 0, 2)), struct.pack("<HH", 2, 4), id="a field less"),
    ],
)
def test_fields_go_by_their_names(new: Struct, expected: bytes) -> None:
    assert conversion(OLD, new, exact=False)(VALUES) == expected


@pytest.mark.parametrize(
    ("new", "exact", "reason"),
    [
        (made(8, ("first", 0, 4), ("other", 4, 2)), False, "other fields (other, second)"),
        (made(8, ("first", 0, 8)), False, "field first of struct thing has another type"),
        (made(4, ("first", 0, 4)), True, "other fields (second)"),
        (made(9, ("first", 0, 4), ("second", 4, 2), ("more", 6, 1)), True, "other fields (more)"),
    ],
    ids=["perhaps a new name", "another type", "a key with less", "a key with more"],
)
def test_what_may_mean_something_else_is_not_taken_over(
    new: Struct, exact: bool, reason: str
) -> None:
    with pytest.raises(Incompatible) as refused:
        conversion(OLD, new, exact=exact)
    assert reason in str(refused.value)
