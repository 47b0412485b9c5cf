# SPDX-License-Identifier: Apache-2.0
"""How commands print rows: with columns of a given width, or as wide as their widest cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LABEL_WIDTH = 10


def format_row(cells: Iterable[object], widths: Iterable[int]) -> str:
    """The cells side by side, each in its width. A negative width aligns to the right.

    A cell that is too long is not cut; one space keeps it apart from the next cell. Width 0 is for the last cell.
    """
    texts = []
    for cell, width in zip(map(str, cells), widths, strict=True):
        if width < 0:
            texts.append(cell.rjust(-width))
        else:
            texts.append(cell.ljust(width) if len(cell) < width else f"{cell} ")
    return "".join(texts).rstrip()


def format_label(label: str, text: object, width: int = LABEL_WIDTH) -> str:
    """A line with a label, and its text at a fixed column."""
    return format_row((label, text), (width, 0))


def print_label(label: str, text: object) -> None:
    """Prints such a line at once."""
    print(format_label(label, text), flush=True)


def format_table(rows: Iterable[Sequence[object]], gap: int = 3) -> str:
    """Rows of equal length as lines, with `gap` spaces between columns and no line break at the end."""
    table = [[str(cell) for cell in row] for row in rows]
    widths = [gap + max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(format_row(row, widths) for row in table)
