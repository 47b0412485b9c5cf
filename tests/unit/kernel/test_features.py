# SPDX-License-Identifier: Apache-2.0
"""Which features a kernel has, and what is said of those that it does not have."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kubypass.cli.status import kernel_lines
from kubypass.errors import Unsupported
from kubypass.kernel.features import FEATURES, Feature, Features, kernel_status, probe_features

ABSENT = Feature("absent", "a thing", "something is done", "9.9", lambda: False)


def test_a_missing_feature_says_which_version_brought_it() -> None:
    with pytest.raises(Unsupported, match=r"^use a thing: .*; it came with Linux 9\.9$") as raised:
        ABSENT.require()
    assert (raised.value.what, raised.value.since) == ("a thing", "9.9")
    Feature("present", "a thing", "something is done", "9.9", lambda: True).require()


def test_features_have_one_row_each_oldest_first() -> None:
    versions = [tuple(map(int, one.since.split()[0].split("."))) for one in FEATURES]
    assert versions == sorted(versions)
    names = [one.name for one in FEATURES]
    assert len(set(names)) == len(names)
    assert set(Features.__slots__) <= set(names)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
def test_each_feature_is_tried_once() -> None:
    assert probe_features() == probe_features()
    for feature in FEATURES:
        assert feature.present == feature.present
        probe: Any = feature.probe
        assert probe.cache_info().misses == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
def test_status_names_what_is_missing() -> None:
    status: dict[str, Any] = kernel_status()
    assert status["release"] == os.uname().release
    lacking = [one.what for one in FEATURES if not one.present]
    assert [each["feature"] for each in status["missing"]] == lacking


def test_the_text_names_feature_and_version() -> None:
    row = {"feature": "a thing", "since": "9.9", "purpose": "something is done"}
    assert kernel_lines({"release": "5.10.1", "missing": [row]}) == [
        "Kernel:                  5.10.1   [missing features: 1]",
        "  a thing: missing (Linux 9.9)   [something is done]",
    ]
    assert kernel_lines({"release": "6.7", "missing": []}) == [
        "Kernel:                  6.7   [missing features: none]"
    ]
