# SPDX-License-Identifier: Apache-2.0
"""How commands print rows and labels."""

from __future__ import annotations

from kubypass.cli.table import format_label, format_table


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("ID", "Name"), (7, "web"), (12, "")]
    assert format_table(rows) == "ID   Name\n7    web\n12"
    assert format_table(rows, gap=" ", right=(0,)) == "ID Name\n 7 web\n12"
    assert format_table([]) == ""


def test_labels_stand_in_a_column():
    assert format_label("agents", "all ready") == "agents    all ready"
    assert format_label("none:", "", 25) == "none:"
