# SPDX-License-Identifier: Apache-2.0
"""A real agent whose services become wrong while it runs: its log, `kubypass status` and `status --check`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from kubypass_lab.bench.cluster import named_service, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.commands import command
from tests.agent.undo import problems

MANY = 40
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@pytest.fixture
def node() -> Iterator[BareNode]:
    with bare_node() as made:
        yield made


def status(node: BareNode, *words: str) -> subprocess.CompletedProcess[str]:
    return command(node, "status", "--run", str(node.run), *words)


def lines(node: BareNode, event: str) -> list[str]:
    """Lines of the agent's log that tell of this event."""
    said = (node.root / "agent.log").read_text().splitlines()
    return [line for line in said if f" {event} subject=" in line]


def wait_for(node: BareNode, event: str, count: int) -> list[str]:
    deadline = time.monotonic() + DEADLINE_S
    while len(found := lines(node, event)) < count:
        assert time.monotonic() < deadline, f"no line {event}: {found}"
        time.sleep(0.05)
    return found


def test_problems_that_come_while_it_runs_are_told_once_a_kind_and_so_is_their_end(
    node: BareNode,
) -> None:
    write_file(node.manifests / "web.json", named_service("web", "10.96.0.1"))
    with agent(node):
        assert status(node, "--check").returncode == 0
        rivals = [named_service(f"z{number}", "10.96.0.1") for number in range(MANY)]
        rivals_file = node.manifests / "rivals.json"
        write_file(rivals_file, {"apiVersion": "v1", "kind": "List", "items": rivals})
        (line,) = wait_for(node, "problem", 1)
        assert "WARNING problem" in line
        assert f"count={MANY}" in line
        assert "wants 10.96.0.1:80/TCP" in line
        done = status(node)
        assert done.returncode == 0
        assert (
            f"Problems:                {MANY}\n  {MANY} alike: Service default/z0, " in done.stdout
        )
        assert done.stdout.count("wants 10.96.0.1:80/TCP") == 1
        checked = status(node, "--check", "-o", "json")
        assert checked.returncode == 1
        assert len(json.loads(checked.stdout)["problems"]) == len(problems(node)) == MANY
        rivals_file.unlink()
        (line,) = wait_for(node, "problem ended", 1)
        assert f"count={MANY}" in line
        assert status(node, "--check").returncode == 0
        assert len(lines(node, "problem")) == 1
