# SPDX-License-Identifier: Apache-2.0
"""The table of names that changed: each row leads from a name that is gone to one that there is."""

from __future__ import annotations

import re

import pytest

from kubypass.datapath import layout, renames
from kubypass.datapath.map_upgrade import CONNECTIONS, TABLES, Incompatible, conversion
from kubypass.datapath.renames import Rename
from kubypass.kernel.btf import Member, Struct

DATE = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]")


def made(*names: str) -> Struct:
    """A struct `flow` of bytes."""
    members = (Member(name, "__u8", at, 1, 1) for at, name in enumerate(names))
    return Struct("flow", len(names), tuple(members))


@pytest.mark.parametrize("row", renames.MAPS, ids=str)
def test_a_map_that_was_renamed_is_found_by_both_names(row: Rename) -> None:
    assert row.new in (*TABLES, *CONNECTIONS)
    assert row.new in layout.MAP_NAMES
    assert row.old not in layout.MAP_NAMES
    assert DATE.fullmatch(row.date)
    names = renames.map_names(row.new)
    assert names[0] == row.new
    assert row.old in names


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name, rows in renames.FIELDS.items() for row in rows], ids=str
)
def test_a_field_that_was_renamed_is_in_its_struct(name: str, row: Rename) -> None:
    of_struct = getattr(layout, "".join(part.capitalize() for part in name.split("_")))
    assert row.new in of_struct._fields
    assert row.old not in of_struct._fields
    assert DATE.fullmatch(row.date)


def test_a_map_that_always_had_its_name() -> None:
    assert renames.map_names("services") == ("services",)
    assert renames.field_names("service") == {}


def test_a_renamed_field_keeps_its_value() -> None:
    convert = conversion(made("state", "from_self"), made("flags", "state", "more"), exact=False)
    assert convert(bytes([2, 1, 3, 0])) == bytes([1, 2, 0, 0, 3, 0])


def test_with_a_renamed_field_others_may_be_new_or_gone_but_not_both() -> None:
    assert conversion(made("from_self", "left"), made("flags"), exact=False)(b"\1\2") == b"\1"
    with pytest.raises(Incompatible, match=re.escape("other fields (left, right)")):
        conversion(made("from_self", "left"), made("flags", "right"), exact=False)


def test_a_struct_with_both_names_has_two_fields() -> None:
    """A version between that used the old name for something else: nothing is guessed."""
    with pytest.raises(Incompatible, match="from_self"):
        conversion(made("from_self", "flags"), made("flags", "new"), exact=False)


def test_a_renamed_field_of_another_type_is_not_taken_over() -> None:
    wider = Struct("flow", 4, (Member("flags", "__u32", 0, 4, 1),))
    with pytest.raises(Incompatible, match="field flags of struct flow has another type"):
        conversion(made("from_self"), wider, exact=False)
