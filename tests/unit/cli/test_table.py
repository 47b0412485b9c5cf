# SPDX-License-Identifier: Apache-2.0
"""How commands print rows and labels."""

from __future__ import annotations

from kubypass.cli.table import format_label, format_row, format_table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("ID", "Name"), (7, "web"), (12, "")]
    assert format_table(rows) == "ID   Name\n7    web\n12"
    assert format_table(rows, gap=1) == "ID Name\n7  web\n12"
    assert format_table([]) == ""


def test_widths_may_align_to_the_right_and_cut_nothing() -> None:
    assert format_row(("web", 7, "on"), (5, -3, 4)) == "web    7on"
    assert format_row(("a long name", 7), (5, -3)) == "a long name   7"


def test_labels_stand_in_a_column() -> None:
    assert format_label("agents", "all ready") == "agents    all ready"
    assert format_label("none:", "", 25) == "none:"
