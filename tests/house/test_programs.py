# SPDX-License-Identifier: Apache-2.0
"""The programs fit every kernel that they are for, with room for the next option; docs/programs.md says by how much."""

from __future__ import annotations

import os

import pytest

from tests.house.programs import (
    OBJECTS,
    TAIL_CALL_STACK,
    chains,
    object_path,
    object_rows,
    read_functions,
    stack_of,
    tail_calls,
    verified_instructions,
)
from tests.house.sources import ROOT

HOUSE_STACK = 448
"""A program has 512 bytes; the rest is for later options."""
VERIFIED = 450_000
"""Far below the million of Linux 5.10, which prunes less than newer kernels do."""
PAGE = ROOT / "docs/programs.md"


def deepest() -> tuple[int, str]:
    """The deepest chain of all programs, and how many bytes it has."""
    return max(
        (row.stack, f"{row.object}: {row.chain}")
        for name in (*OBJECTS, "host_l3")
        for row in object_rows(name)
    )


def page_rows() -> dict[str, list[str]]:
    """Program -> its cells on the page."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[1].strip("`"): row for row in rows}


def test_every_chain_of_calls_leaves_room() -> None:
    assert deepest()[0] <= HOUSE_STACK, deepest()[1]


def test_there_are_chains() -> None:
    functions = read_functions(object_path("host"))
    found = [" ".join(chain) for chain in chains("from_uplink", functions)]
    assert any(len(chain.split()) > 2 for chain in found), found
    assert stack_of(["from_uplink"], functions) >= 32
    assert sum(each.has_tail_call for each in functions.values()) > 0


def test_callers_of_a_tail_call_have_little_stack() -> None:
    """A program that is called is one of the version before, whose tail calls lead to none: 2 of 33."""
    for name in OBJECTS:
        functions = read_functions(object_path(name))
        for program in (key for key, each in functions.items() if each.is_program):
            for holder, above in tail_calls(program, functions).items():
                assert above < TAIL_CALL_STACK, (name, program, holder)


def test_the_page_is_fresh() -> None:
    found = page_rows()
    rows = [row for name in OBJECTS for row in object_rows(name)]
    assert sorted(found) == sorted(row.program for row in rows), "run make layout"
    for row in rows:
        verified = int(found[row.program][3].replace(",", ""))
        cells = [cell.strip() for cell in row.line(verified).strip("|\n").split("|")]
        assert cells == found[row.program], "run make layout"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
def test_the_verifier_looks_at_few_instructions() -> None:
    found, noted = verified_instructions(), page_rows()
    if not any(found.values()):
        pytest.skip("this kernel does not tell (Linux 5.16)")
    assert max(found.values()) <= VERIFIED, found
    for name, number in found.items():
        was = int(noted[name][3].replace(",", ""))
        assert abs(number - was) <= was / 10, f"{name}: {was} -> {number}; run make layout"
