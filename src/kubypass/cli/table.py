# SPDX-License-Identifier: Apache-2.0
"""How commands print: labels with their text, and tables with columns that are as wide as they need to be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def format_table(
    rows: Iterable[Sequence[object]], gap: str = "   ", right: Iterable[int] = ()
) -> str:
    """Rows of equal length as lines, without a line break at the end. Columns in `right` are right-aligned."""
    table = [[str(cell) for cell in row] for row in rows]
    to_right = set(right)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if number in to_right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(gap.join(cells).rstrip())
    return "\n".join(lines)


def format_label(label: str, text: object, width: int = 10) -> str:
    """A line that begins with a label, its text at a fixed column."""
    return f"{label:<{width}}{text}".rstrip()
