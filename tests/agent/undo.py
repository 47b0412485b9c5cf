# SPDX-License-Identifier: Apache-2.0
"""A real agent that nothing but events and its look of each second moves, with links or with clsact filters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from kubypass_lab.bench.cluster import named_slice, write_file
from kubypass_lab.bench.node import BareNode
from kubypass_lab.box.patience import DEADLINE_S

T = TypeVar("T")
WITHOUT_TCX = """
import dataclasses
from kubypass.agent import agent
probe = agent.probe_features
agent.probe_features = lambda: dataclasses.replace(probe(), tcx=False)
"""
"""An agent on a kernel of before 6.6, as far as tcx goes."""
_MAIN = """
import sys
from kubypass.cli import main
sys.exit(main())
"""


def wait(node: BareNode, condition: Callable[[], T], what: str) -> T:
    """Until the condition holds; its value."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        log = (node.root / "agent.log").read_text().splitlines()[-5:]
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}; {log}"
        time.sleep(0.02)
    return value


def on(node: BareNode, *words: str) -> str:
    """What a command in the node's network namespace says."""
    command = ["ip", "netns", "exec", node.namespace, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def log(node: BareNode) -> str:
    return (node.root / "agent.log").read_text()


def problems(node: BareNode) -> list[str]:
    return [f"{p['subject']}: {p['message']}" for p in node.status()["problems"]]


def healthz(node: BareNode) -> tuple[int, str]:
    """The answers of the node's health, and of the agent's readiness; 0 and "000" while nobody answers."""
    found = []
    for port in (10256, 9879):
        words = ("-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{port}/healthz")
        command = ["ip", "netns", "exec", node.namespace, "curl", *words]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append(asked.stdout)
    return int(found[0] or 0), found[1]


def write_pod(node: BareNode, name: str, device: str, address: str) -> None:
    """A pod of somebody else's network: its device, and its record."""
    ends = ("type", "veth", "peer", "name", f"p{device}"[:15])
    on(node, "ip", "link", "add", device, *ends)
    on(node, "ip", "link", "set", device, "up")
    record = {
        "name": name,
        "namespace": "default",
        "addresses": [address],
        "interface": device,
        "mac": "02:00:00:00:00:01",
    }
    pods = node.run / "pods"
    pods.mkdir(parents=True, exist_ok=True)
    (pods / f".{name}").write_text(json.dumps(record))
    (pods / f".{name}").rename(pods / f"{name}.json")


@contextmanager
def started(
    node: BareNode,
    *options: str,
    before: str = "",
    under: Sequence[str] = (),
    ready: Callable[[], bool] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """An agent for the length of a block. It checks everything at its start, and then not for an hour.

    `before` is Python that runs in the agent's process before it, `under` a command that starts the agent.
    """
    program = [sys.executable, "-c", before + _MAIN]
    words = ["agent", "--node", "bench", "--manifests", str(node.manifests)]
    options = ("--check-every", "3600", *options)
    with (node.root / "agent.log").open("ab") as output:
        process = subprocess.Popen(
            [
                *["setpriv", "--pdeathsig", "TERM"],
                *["nsenter", f"--net=/run/netns/{node.namespace}", *under],
                *[*program, *words, *node.agent_options, *options],
            ],
            stderr=output,
        )
    try:
        is_ready = ready or (lambda: node.ask("/healthz")[0] == 200)
        wait(node, lambda: process.poll() is not None or is_ready(), "the agent to be ready")
        assert process.poll() is None, log(node)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE_S)


def root() -> bool:
    return os.geteuid() == 0


def backends(node: BareNode) -> list[str]:
    """The backends of all services that the agent serves."""
    rows = json.loads(node.ask("/services")[1])["services"]
    return [backend["address"] for row in rows for backend in row["backends"]]


def serves_a_change(node: BareNode, address: str) -> None:
    """Whatever fails, a new endpoint is served."""
    write_file(node.manifests / "slice.json", named_slice("web", [address], 80))
    wait(node, lambda: backends(node) == [f"{address}:80/TCP"], "the new endpoint")
