# SPDX-License-Identifier: Apache-2.0
"""Records of pods, as other networks' plugins may write them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubypass.model.pod import Pod
from kubypass.model.problem import Problem
from kubypass.node.pod_records import read_pods

RECORD: dict[str, Any] = {
    "name": "web",
    "namespace": "shop",
    "uid": "u",
    "addresses": ["10.244.0.7"],
    "interface": "veth0",
    "mac": "02:00:00:00:00:01",
    "netns": "/run/netns/web",
    "labels": {"app": "web"},
    "annotations": {"a": "b"},
    "runtime_class": "kata",
}
REQUIRED = {"name", "addresses", "interface", "mac"}


def read(directory: Path, record: dict[str, Any]) -> tuple[list[Pod], list[Problem]]:
    (directory / "web.json").write_text(json.dumps(record))
    return read_pods(directory)


@pytest.mark.parametrize("field", RECORD)
def test_null_is_the_same_as_left_out(tmp_path: Path, field: str) -> None:
    left_out = {name: value for name, value in RECORD.items() if name != field}
    pods, problems = read(tmp_path, left_out)
    null_pods, null_problems = read(tmp_path, RECORD | {field: None})
    assert null_pods == pods
    assert [one.subject for one in null_problems] == [one.subject for one in problems]
    assert [one.subject for one in problems] == (
        ["Pod record web.json"] if field in REQUIRED else []
    )


def test_a_pipe_among_the_records_is_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "late.json")
    pods, problems = read(tmp_path, RECORD)
    assert len(pods) == 1
    assert [one.subject for one in problems] == ["Pod record late.json"]
    assert "not a regular file" in problems[0].message
