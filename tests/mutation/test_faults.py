# SPDX-License-Identifier: Apache-2.0
"""The faults fit the tree. Whether the tests notice them takes longer: `make mutation`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())["fault"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["says"])
def test_a_fault_names_one_text_and_changes_it(fault: dict[str, str]) -> None:
    assert (ROOT / fault["file"]).read_text().count(fault["find"]) == 1
    assert fault["find"] != fault["replace"]


def test_there_are_many_and_no_two_alike() -> None:
    assert len({(fault["file"], fault["find"], fault["replace"]) for fault in FAULTS}) == len(
        FAULTS
    )
    assert len({fault["says"] for fault in FAULTS}) == len(FAULTS)
    assert len(FAULTS) >= 50


def test_what_caught_them_is_of_faults_that_are_there() -> None:
    caught = json.loads(Path(__file__).with_name("caught.json").read_text())
    assert caught.keys() <= {fault["says"] for fault in FAULTS}
    for test in caught.values():
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text()
