# SPDX-License-Identifier: Apache-2.0
"""What can be put back is put back at once, whatever else on the node cannot: one failure delays no other repair."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubypass_lab.bench.node import BareNode
from tests.agent.undo import on, problems, root, started, wait, write_pod

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")
ONE_ATTEMPT = """
from kubypass.agent import attempts
attempts._FIRST_S = attempts._LONGEST_S = 3600.0
"""
"""What fails is tried again in an hour, so that whatever waits for it is never done."""


@contextmanager
def broken_pod(node: BareNode) -> Iterator[None]:
    """A pod that can have no programs: somebody has a directory where its links are to be pinned."""
    path = Path(node.root, "bpf", "kubypass", "links", "pod1-ingress")
    path.mkdir(parents=True)
    write_pod(node, "broken", "pod1", "10.1.0.2")
    wait(node, lambda: any("Pod default/broken" in line for line in problems(node)), "a problem")
    yield
    path.rmdir()
    on(node, "ip", "link", "set", "pod1", "down")  # which is news
    wait(node, lambda: not problems(node), "the pod to be served")


def addresses(node: BareNode) -> str:
    """The local addresses that the datapath knows."""
    path = next(Path(node.root, "bpf", "kubypass").rglob("local_addresses"))
    words = ["bpftool", "-j", "map", "dump", "pinned", str(path)]
    rows = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    return " ".join("".join(byte.removeprefix("0x") for byte in row["key"]) for row in rows)


def test_repairs_and_news_beside_a_pod_that_fails_for_good(node: BareNode) -> None:
    write_pod(node, "fine", "pod0", "10.1.0.1")
    with started(node, before=ONE_ATTEMPT), broken_pod(node):
        for _ in range(2):  # the second time there is a repair that waits already
            for name in ("net.ipv4.ip_forward", "net.ipv4.conf.pod0.forwarding"):
                on(node, "sysctl", "-qw", f"{name}=0")
                wait(node, lambda n=name: on(node, "sysctl", "-n", n) == "1\n", f"{name}")  # type: ignore[misc]
        links = Path(node.root, "bpf", "kubypass", "links")
        for name in ("eth0-ingress", "pod0-egress") * 10:  # also at the end of the repair before
            (links / name).unlink()
            wait(node, (links / name).exists, f"the pin of {name}")
        on(node, "ip", "addr", "add", "192.168.1.77/24", "dev", "eth0")
        wait(node, lambda: "c0a8014d" in addresses(node), "a new address of the node")
        write_pod(node, "late", "pod2", "10.1.0.3")
        wait(node, (links / "pod2-ingress").exists, "the programs of a new pod")
