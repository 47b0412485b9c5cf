# SPDX-License-Identifier: Apache-2.0
"""A node for one agent leaves nothing, also where its process is killed: its agent ends, the next takes it away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kubypass.kernel import cgroup
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
MAKER = """
import time
from kubypass_lab.bench.node import agent, bare_node
with bare_node() as node, agent(node):
    print(node.namespace, flush=True)
    time.sleep(100)
"""


def things(node: BareNode) -> list[bool]:
    mounts = Path("/proc/self/mounts").read_text()
    namespace = Path("/run/netns", node.namespace)
    return [
        f" {node.root / 'bpf'} " in mounts,
        *(path.exists() for path in (node.root, node.cgroup, namespace)),
    ]


def agent_runs(node: BareNode) -> bool:
    wanted = os.fsencode(node.run)
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if wanted in place.read_bytes():
                return True
    return False


def test_nothing_is_left() -> None:
    with bare_node() as node, agent(node):
        assert all(things(node))
        assert agent_runs(node)
    assert not any(things(node))


def test_what_a_killed_process_left_is_taken_away() -> None:
    with subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout
        name = made.stdout.readline().strip()
        made.send_signal(signal.SIGKILL)
    with bare_node() as node:
        left = BareNode(name, node.root.parent / name, cgroup.mount_point() / name)
        assert name.startswith("kubypass-bench-")
        assert name != node.namespace
        assert all(things(node)), "one that is in use stays"
        assert not any(things(left))
        deadline = time.monotonic() + DEADLINE_S
        while agent_runs(left):
            assert time.monotonic() < deadline, "its agent goes on"
            time.sleep(0.05)
    assert not any(things(node))
