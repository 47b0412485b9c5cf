# SPDX-License-Identifier: Apache-2.0
"""The command itself, asked case by case over its standard input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trace.cases import KUBYPASS


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason="needs root: loads BPF programs"))


@pytest.fixture(scope="session")
def ask() -> Iterator[Callable[[object], dict[str, Any]]]:
    """A case, or a line of text -> its answer."""
    with subprocess.Popen(
        [KUBYPASS, "trace", "--batch", "-", "-o", "json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout

        def answer(case: object) -> dict[str, Any]:
            line = case if isinstance(case, str) else json.dumps(case)
            print(line, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield answer
        process.stdin.close()
        assert process.wait(timeout=20) == 0
