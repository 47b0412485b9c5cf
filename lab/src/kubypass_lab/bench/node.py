# SPDX-License-Identifier: Apache-2.0
"""A bare node for one agent: a network namespace with an uplink, a cgroup and a bpf filesystem."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubypass.errors import KernelError, KubypassError
from kubypass.kernel import cgroup, mounts
from kubypass.kernel.processes import left_behind
from kubypass_lab.box.patience import DEADLINE_S

_ROOT = Path("/run/kubypass/bench")
_PREFIX = "kubypass-bench"
_LINKS = """link set lo up
link add eth0 type veth peer name far
link set eth0 up
link set far up
addr add 192.168.1.31/24 dev eth0
"""


@dataclass(frozen=True, slots=True)
class BareNode:
    """A node's network namespace, directory and cgroup."""

    namespace: str
    root: Path
    cgroup: Path

    @property
    def manifests(self) -> Path:
        """The directory of manifests that the agent follows."""
        return self.root / "manifests"

    @property
    def run(self) -> Path:
        """The agent's run directory."""
        return self.root / "run"

    @property
    def options(self) -> list[str]:
        """The options of every command that works with the agent's objects."""
        return ["--run", str(self.run), "--bpffs", str(self.root / "bpf")]

    @property
    def agent_options(self) -> list[str]:
        """The options of the agent."""
        return [*self.options, "--cgroup", str(self.cgroup)]

    def ask(self, path: str) -> tuple[int, bytes]:
        """Send one request to the agent. The status is 0 while it does not answer."""
        socket = str(self.run / "agent.sock")
        command = ["curl", "-s", "-o", "-", "-w", "\n%{http_code}", "--unix-socket", socket]
        done = subprocess.run([*command, f"http://agent{path}"], capture_output=True, check=False)
        body, _, code = done.stdout.rpartition(b"\n")
        return int(code or b"0"), body

    def status(self) -> dict[str, Any]:
        """The agent's /status."""
        found: dict[str, Any] = json.loads(self.ask("/status")[1])
        return found


@contextmanager
def bare_node() -> Iterator[BareNode]:
    """A node for the length of a block. Nodes that killed processes left are removed first."""
    for left in left_behind(_ROOT, _PREFIX):
        with suppress(
            KernelError, OSError, subprocess.CalledProcessError
        ):  # another process removes it
            _remove(_node(left.name))
    node = _node(f"{_PREFIX}-{os.getpid()}")
    node.root.mkdir(parents=True)
    try:
        for directory in (node.manifests, node.run, node.root / "bpf"):
            directory.mkdir()
        node.cgroup.mkdir()
        mounts.mount_bpffs(node.root / "bpf")
        subprocess.run(["ip", "netns", "add", node.namespace], check=True)
        subprocess.run(
            ["ip", "-n", node.namespace, "-batch", "-"], input=_LINKS, text=True, check=True
        )
        yield node
    finally:
        _remove(node)


def _node(name: str) -> BareNode:
    return BareNode(name, _ROOT / name, cgroup.mount_point() / name)


def _remove(node: BareNode) -> None:
    """Remove what exists of a node. The directory is removed last, because later processes find a node by it."""
    if Path(f"/run/netns/{node.namespace}").exists():
        subprocess.run(["ip", "netns", "delete", node.namespace], check=True)
    if mounts.is_bpffs(node.root / "bpf"):
        mounts.unmount(node.root / "bpf")
    if node.cgroup.exists():
        node.cgroup.rmdir()
    shutil.rmtree(node.root)


@contextmanager
def agent(node: BareNode, *options: str) -> Iterator[float]:
    """An agent on the node for the length of a block. Yields the seconds from exec until it is healthy."""
    started = time.perf_counter()
    with (node.root / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *["setpriv", "--pdeathsig", "TERM"],
                *["nsenter", f"--net=/run/netns/{node.namespace}"],
                *[str(Path(sys.executable).parent / "kubypass"), "agent", "--node", "bench"],
                *["--manifests", str(node.manifests), *node.agent_options, *options],
            ],
            stderr=log,
        )
    try:
        while not ((node.run / "agent.sock").exists() and node.ask("/healthz")[0] == 200):
            if process.poll() is not None or time.perf_counter() - started > DEADLINE_S:
                text = (node.root / "agent.log").read_text().splitlines()
                raise KubypassError(
                    f"the agent did not start: {text[-1] if text else 'it said nothing'}"
                )
            time.sleep(0.005)
        yield time.perf_counter() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
