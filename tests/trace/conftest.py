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

from kubypass_lab.box.patience import DEADLINE_S
from tests.program import KUBYPASS
from tests.trace.cases import Case, ipv6
from tests.trace.objects import OBJECTS
from tests.trace.rows import Check, Expected, last


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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

        out = process.stdout

        def answer(case: object) -> dict[str, Any]:
            line = case if isinstance(case, str) else json.dumps(case)
            print(line, file=process.stdin, flush=True)
            return json.loads(out.readline())

        yield answer
        process.stdin.close()
        assert process.wait(timeout=DEADLINE_S) == 0


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def check(ask: Callable[[object], dict[str, Any]], request: pytest.FixtureRequest) -> Check:
    def check(case: Case, source: str, to: str, port: int, expected: Expected, **more: Any) -> None:
        backends, masquerade = expected if isinstance(expected, tuple) else ((), False)
        asked = case.ask(source, to, port, **more)
        answer = ask(ipv6(asked) if request.param == 6 else asked)
        found = {last(text.rpartition(":")[0]) for text in answer["backends"]}
        chosen = {last(text) for text in backends}
        word = expected if isinstance(expected, str) else "dnat"
        assert (answer["verdict"], found, answer["masquerade"]) == (word, chosen, masquerade), (
            answer
        )
        assert (answer["backend"] in answer["backends"]) if backends else answer["backend"] is None
        assert answer["reason"]

    return check


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    path = tmp_path / "all.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": OBJECTS}))
    return tmp_path
