# SPDX-License-Identifier: Apache-2.0
"""Devices by any name that the kernel takes: dots, brackets, bytes that are no text. All are served, and can go."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kubypass.model.printable import printable
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
NAMES = (
    b"bond0.100",
    b"eth0.5@x",
    b"...",
    b"cgroup",
    b"eth[0]",
    b"x-ingress",
    b"\xff\xfe.\x80",
    "größe.網".encode(),
    b"\x1b[31mred",
)


def ip(node: BareNode, *words: str | bytes) -> None:
    subprocess.run(["ip", "-n", node.namespace, *words], check=True)


def wait(node: BareNode, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        log = (node.root / "agent.log").read_text().splitlines()[-5:]
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}; {log}"
        time.sleep(0.05)


def uplinks(node: BareNode) -> list[str]:
    """The devices that the agent serves, as `kubypass status` shows them."""
    rows = node.status()["kube_proxy_replacement"]["devices"]
    return sorted(row.split(" ")[0] for row in rows)


def links(node: BareNode) -> int:
    """How many links are pinned for devices."""
    pins = Path(node.root, "bpf", "kubypass", "links")
    return sum(not path.name.startswith("cgroup-bind") for path in pins.iterdir())


def test_devices_of_any_name_are_served() -> None:
    with bare_node() as node, agent(node):
        ip(node, "route", "add", "default", "dev", "eth0", "metric", "99")
        before, pinned = uplinks(node), links(node)
        for number, name in enumerate(NAMES, 1):
            ip(node, "link", "add", name, "type", "veth", "peer", "name", f"far{number}")
            ip(node, "link", "set", name, "up")
            ip(node, "addr", "add", f"10.99.{number}.1/24", "dev", name)
            ip(node, "route", "add", "default", "dev", name, "metric", str(number))
        shown = sorted([*before, *(printable(os.fsdecode(name)) for name in NAMES)])
        wait(node, lambda: uplinks(node) == shown, f"{shown} are uplinks")
        wait(node, lambda: links(node) == pinned + 2 * len(NAMES), "all have both programs")
        json.dumps(node.status(), ensure_ascii=False).encode()
        for name in NAMES:
            ip(node, "link", "delete", name)
        wait(node, lambda: uplinks(node) == before, "they are gone again")
        wait(node, lambda: links(node) == pinned, "their pins are gone")


def test_an_agent_that_comes_back_keeps_what_it_finds() -> None:
    with bare_node() as node:
        with agent(node):
            ip(node, "link", "add", "bond0.100", "type", "veth", "peer", "name", "far1")
            ip(node, "link", "set", "bond0.100", "up")
            ip(node, "addr", "add", "10.99.1.1/24", "dev", "bond0.100")
            ip(node, "route", "add", "default", "dev", "bond0.100")
            wait(node, lambda: "bond0.100" in uplinks(node), "it is an uplink")
        with agent(node):
            assert "bond0.100" in uplinks(node)
            assert node.status()["writes"]["links"] == 0
