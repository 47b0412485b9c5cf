# SPDX-License-Identifier: Apache-2.0
"""Nodes for one test each, where the plugin is called as a container runtime would."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.runtime import Runtime, runtime

HERE = Path(__file__).parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(needs_root)


@pytest.fixture
def pods() -> Iterator[Runtime]:
    """A node and its runtime, without an agent."""
    with runtime() as made:
        yield made
