# SPDX-License-Identifier: Apache-2.0
"""One failure of one device, file or filesystem is a problem, and the agent goes on. Real conditions throughout."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kubypass.agent.lock import NodeLock
from kubypass.errors import ConfigError
from kubypass.kernel.netns import inside
from kubypass_lab.bench.node import BareNode, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.undo import (
    healthz,
    log,
    on,
    problems,
    root,
    serves_a_change,
    started,
    wait,
    write_pod,
)

pytestmark = pytest.mark.skipif(not root(), reason="needs root: loads BPF programs")


def test_files_that_are_no_manifests(node: BareNode) -> None:
    os.mkfifo(node.manifests / "pipe.yaml")
    (node.manifests / "zero.yaml").symlink_to("/dev/zero")
    (node.manifests / "loop.yaml").symlink_to("loop.yaml")
    (node.manifests / "round").symlink_to(".")
    (node.manifests / "directory.json").mkdir()
    with (node.manifests / "huge.json").open("wb") as huge:
        huge.truncate(10 << 30)
    with started(node):
        serves_a_change(node, "10.1.0.1")
        os.mkfifo(node.manifests / "later.yaml")
        wait(node, lambda: len(problems(node)) == 5, "five problems")
        found = problems(node)
        for name, reason in {
            "pipe": "not a regular file",
            "later": "not a regular file",
            "zero": "not a regular file",
            "loop": "Too many levels of symbolic links",
            "huge": "more than 64 MiB",
        }.items():
            assert any(name in line and reason in line for line in found), (name, found)
        serves_a_change(node, "10.1.0.2")
        for name in ("pipe.yaml", "later.yaml", "zero.yaml", "loop.yaml", "huge.json"):
            (node.manifests / name).unlink()
        wait(node, lambda: not problems(node), "no problem")
        assert node.status()["memory"]["VmHWM"] < 400_000


@contextmanager
def small_filesystem(node: BareNode) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", node.run], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", node.run], check=True)


def fill(node: BareNode) -> None:
    """Leaves no page free."""
    done = subprocess.run(
        ["dd", "if=/dev/zero", f"of={node.run}/filler", "bs=4096"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No space left on device" in done.stderr


def test_a_run_directory_that_is_full(node: BareNode) -> None:
    with small_filesystem(node):
        with started(node):
            fill(node)
            serves_a_change(node, "10.1.0.1")
        with started(node):
            assert set(node.status()["writes"].values()) == {0}
            serves_a_change(node, "10.1.0.2")
            assert healthz(node) == (200, "200")


def test_a_run_directory_that_is_read_only(node: BareNode) -> None:
    with small_filesystem(node):
        with started(node):
            serves_a_change(node, "10.1.0.1")
        subprocess.run(["mount", "-o", "remount,ro", node.run], check=True)
        with started(node, ready=lambda: healthz(node) == (200, "200")):
            assert (
                "Read-only file system"
                in wait(
                    node, lambda: [w for w in log(node).splitlines() if "agent.sock" in w], "a line"
                )[-1]
            )
            subprocess.run(["mount", "-o", "remount,rw", node.run], check=True)
            wait(node, lambda: node.ask("/healthz")[0] == 200, "its socket, once it can be made")
            serves_a_change(node, "10.1.0.2")
            wait(node, lambda: not problems(node), "no problem")


def test_sockets_that_somebody_removes(node: BareNode) -> None:
    with started(node):
        for _ in range(2):
            (node.run / "agent.sock").unlink()
            wait(node, lambda: node.ask("/healthz")[0] == 200, "its socket again")
        assert (node.run / "agent.sock").stat().st_mode & 0o777 == 0o600


def test_few_files_may_be_open(node: BareNode) -> None:
    with (
        started(node, under=["prlimit", "--nofile=160:160"]),
        ExitStack() as opened,
        inside(f"/run/netns/{node.namespace}"),
    ):
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", 10256)))
        serves_a_change(node, "10.1.0.1")
        assert healthz(node) == (200, "200")


def test_devices_that_come_and_go(node: BareNode) -> None:
    with started(node) as process:
        for _ in range(40):
            on(node, "ip", "link", "add", "vpn0", "type", "veth", "peer", "name", "vpn0p")
            on(node, "ip", "addr", "add", "10.99.0.2/24", "dev", "vpn0")
            on(node, "ip", "link", "set", "vpn0", "up")
            on(node, "ip", "route", "add", "default", "dev", "vpn0", "metric", "600")
            on(node, "ip", "link", "del", "vpn0")
        serves_a_change(node, "10.1.0.1")
        assert process.poll() is None
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert "fault of the program" not in log(node)


def test_records_of_pods_that_are_gone_or_broken(node: BareNode) -> None:
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node):
        (node.run / "pods" / "bad.json").write_bytes(b"\xff{")
        wait(node, lambda: any("bad.json" in line for line in problems(node)), "a problem")
        (node.run / "pods").rename(node.run / "away")
        on(node, "ip", "link", "set", "pod0", "down")
        wait(node, lambda: any("Pod records" in line for line in problems(node)), "a problem")
        assert node.status()["pods"] == 1, "a directory that is gone takes no pod with it"
        (node.run / "away" / "bad.json").unlink()
        (node.run / "away").rename(node.run / "pods")
        on(node, "ip", "link", "set", "pod0", "up")
        wait(node, lambda: not problems(node), "no problem")


def test_one_agent_a_node_whatever_its_run_directory(node: BareNode) -> None:
    other = node.root / "other"
    other.mkdir()
    with started(node) as process:
        words = ["nsenter", f"--net=/run/netns/{node.namespace}", "setpriv", "--pdeathsig", "TERM"]
        agent = ["agent", "--manifests", str(node.manifests), *node.agent_options]
        agent[agent.index("--run") + 1] = str(other)
        kubypass = Path(sys.executable).parent / "kubypass"
        done = subprocess.run(
            [*words, kubypass, *agent],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 2
        assert f"pid {process.pid}, --run {node.run}" in done.stderr.splitlines()[-1]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with started(node):
        assert healthz(node) == (200, "200")


def test_the_nodes_lock(tmp_path: Path) -> None:
    with bare_node() as node, inside(f"/run/netns/{node.namespace}"):
        held = NodeLock(tmp_path)
        for _ in range(200):
            with pytest.raises(ConfigError, match="one agent serves a node"):
                NodeLock(tmp_path / "other")
        held.forget_askers()
        with pytest.raises(ConfigError, match=f"pid {os.getpid()}, --run {tmp_path}"):
            NodeLock(tmp_path / "other")
        held.close()
        NodeLock(tmp_path / "other").close()
