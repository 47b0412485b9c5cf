# SPDX-License-Identifier: Apache-2.0
"""Any name becomes a file name that a bpffs takes, and comes back."""

from __future__ import annotations

import os

import pytest

from kubypass.kernel.bpffs_names import bpffs_name, from_bpffs_name

NAMES = (
    "eth0",
    "bond0.100",
    "node-01.prod.example.org",
    "...",
    "a%2Eb",
    ":2E",
    "a/b",
    "größe",
    "x-ingress",
    os.fsdecode(b"\xff\x80.\xfe"),
    "\x1b[31m",
)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_comes_back(name: str) -> None:
    assert from_bpffs_name(bpffs_name(name)) == name


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_bpffs_takes_it(name: str) -> None:
    assert not {".", "/", "\0"} & set(bpffs_name(name))


def test_no_two_names_have_the_same() -> None:
    assert len({bpffs_name(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", ["eth0", "lxc0a1b", "größe", "a%b", "x-ingress"])
def test_what_could_always_stand_is_its_own_file_name(name: str) -> None:
    """An upgrade finds the pins of earlier versions."""
    assert bpffs_name(name) == name
