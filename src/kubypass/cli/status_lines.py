# SPDX-License-Identifier: Apache-2.0
"""The lines of `kubypass status` that it has with an agent and without one."""

from __future__ import annotations

from typing import Any

from kubypass.cli.table import format_label, format_row

_WIDTH = 25


def format_line(name: str, text: object) -> str:
    """A line of the status: its label, and its text at a fixed column."""
    return format_label(f"{name}:", text, _WIDTH)


def format_list(name: str, rows: list[str]) -> list[str]:
    """A line with the number of rows, and the rows below it."""
    return [format_line(name, len(rows) or "none"), *(f"  {row}" for row in rows)]


def drop_lines(status: dict[str, Any]) -> list[str]:
    """Where packets were dropped, why, and how many."""
    return [
        format_row((d["hook"], d["reason"], d["packets"]), (13, 23, 0)) for d in status["drops"]
    ]
