# SPDX-License-Identifier: Apache-2.0
"""A namespace for all rows, programs that are loaded once, and empty maps for each row."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab import V4, V6, Lab, config, namespace, remember_uplink


def pytest_collection_modifyitems(items):
    """These need root, for BPF and namespaces."""
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root: loads BPF programs"))


@pytest.fixture(scope="session")
def place() -> Iterator[str]:
    with namespace() as path:
        remember_uplink(path)
        yield path


@pytest.fixture(scope="session")
def loaded(place: str) -> Lab:
    made = Lab(place)
    made.load(config())
    return made


@pytest.fixture
def lab(loaded: Lab) -> Lab:
    loaded.reset()
    return loaded


@pytest.fixture(params=[V4, V6], ids=["ipv4", "ipv6"])
def who(request):
    return request.param


@pytest.fixture(params=["TCP", "UDP"])
def protocol(request):
    return request.param
