# SPDX-License-Identifier: Apache-2.0
"""Each chain of calls uses at most 448 of the 512 bytes of stack that a program has: the rest is for later options.

The count is that of verifier.c (check_max_stack_depth). Linux 5.10 counts in steps of 32 bytes, newer kernels in steps
of 16: what fits there fits all.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = sorted((ROOT / "build/bpf").glob("*.bpf.o"))
MAX_BPF_STACK, STEP = 448, 32
BELOW_THE_FRAME = re.compile(r"r10 - 0x([0-9a-f]+)|r\d+ \+= -0x([0-9a-f]+)")
FUNCTION = re.compile(r"[0-9a-f]+ <(\w+)>:")
CALL = re.compile(r"R_BPF_64_32\s+(\w+)")


def read_functions(path: Path) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Bytes of stack that each function touches, and which it calls."""
    command = ["llvm-objdump-19", "-d", "-r", "--no-show-raw-insn", path]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    stacks: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    name = ""
    for line in listing.splitlines():
        if found := FUNCTION.match(line):
            name = found[1]
            stacks[name], calls[name] = 0, set()
        for found in BELOW_THE_FRAME.finditer(line):
            stacks[name] = max(stacks[name], int(found[1] or found[2], 16))
        if found := CALL.search(line):
            calls[name].add(found[1])
    return stacks, calls


def deepest(name: str, stacks: dict[str, int], calls: dict[str, set[str]]) -> tuple[int, list[str]]:
    """The chain of calls from a function that needs most stack."""
    own = max(1, -(-stacks[name] // STEP)) * STEP
    below = max((deepest(each, stacks, calls) for each in calls[name]), default=(0, []))
    return own + below[0], [f"{name} {stacks[name]}", *below[1]]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
def test_every_chain_of_calls_fits(path: Path) -> None:
    stacks, calls = read_functions(path)
    assert path.name == "abi.bpf.o" or stacks
    for name in stacks:
        depth, chain = deepest(name, stacks, calls)
        assert depth <= MAX_BPF_STACK, " -> ".join(chain)


def test_there_are_objects_with_calls() -> None:
    _, calls = read_functions(ROOT / "build/bpf/host.bpf.o")
    assert "handle_slow_path" in calls["from_uplink"]
    assert "walk_extensions" in calls["handle_slow_path"]
