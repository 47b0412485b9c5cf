# SPDX-License-Identifier: Apache-2.0
"""Whatever bpf(2) answers, whatever the time of day is and whichever pod has gone, an agent goes on and recovers."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from kubypass_lab.bench.cluster import named_slice, write_file
from kubypass_lab.bench.node import BareNode
from tests.agent.undo import (
    backends,
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

REFUSING = """
import ctypes, os
from kubypass.kernel import bpf
os.chdir({directory!r})
real = bpf._syscall()
WRITES = {{2, 3, 6, 8, 9, 13, 26, 27, 28, 29}}
def syscall(number, command, attributes, size):
    try:
        with open("refuse") as file:
            code = int(file.read() or 0)
    except FileNotFoundError:
        code = 0
    if code and command in WRITES:
        ctypes.set_errno(code)
        return -1
    return real(number, command, attributes, size)
bpf._syscall = lambda: syscall
"""
"""bpf(2) refuses to write, delete, pin, attach and update while a file has an errno: the kernel's own boundary."""

JUMPING = """
import os, time
os.chdir({directory!r})
real = time.time
def jumping():
    try:
        with open("jump") as file:
            return real() + float(file.read() or 0)
    except FileNotFoundError:
        return real()
time.time = jumping
time.time_ns = lambda: int(1e9 * jumping())
"""


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.E2BIG, errno.ENOSPC, errno.ENOMEM, errno.EINVAL]
)
def test_bpf_refuses_everything_for_a_while(node: BareNode, code: int) -> None:
    refuse = node.root / "refuse"
    write_pod(node, "one", "pod0", "10.1.0.1")
    with started(node, before=REFUSING.format(directory=str(node.root))) as process:
        serves_a_change(node, "10.1.0.1")
        refuse.write_text(str(code))
        write_file(node.manifests / "slice.json", named_slice("web", ["10.1.0.2"], 80))
        write_pod(node, "two", "pod1", "10.1.0.2")
        Path(node.root, "bpf", "kubypass", "links", "eth0-ingress").unlink()
        wait(node, lambda: problems(node), "problems")
        on(node, "sysctl", "-qw", "net.ipv4.ip_forward=0")
        wait(node, lambda: on(node, "sysctl", "-n", "net.ipv4.ip_forward") == "1\n", "forwarding")
        assert process.poll() is None
        refuse.unlink()
        wait(node, lambda: backends(node) == ["10.1.0.2:80/TCP"], "the change")
        wait(node, lambda: not problems(node), "no problem")
        wait(node, lambda: healthz(node) == (200, "200"), "the node to be healthy")
        assert node.status()["pods"] == 2
        assert "fault of the program" not in log(node)


def test_the_time_of_day_is_no_clock(node: BareNode) -> None:
    """It may be 1970, or 2106 and more: nothing waits for it, and nothing expires by it."""
    jump = node.root / "jump"
    with started(node, before=JUMPING.format(directory=str(node.root))) as process:
        for number, seconds in enumerate(("-1e9", "4e9", "-3600", "0"), 1):
            jump.write_text(seconds)
            serves_a_change(node, f"10.1.0.{number}")
            on(node, "sysctl", "-qw", "net.ipv4.ip_forward=0")
            wait(node, lambda: on(node, "sysctl", "-n", "net.ipv4.ip_forward") == "1\n", seconds)
            wait(node, lambda: healthz(node) == (200, "200"), f"a healthy node at {seconds}")
        assert problems(node) == []
        assert process.poll() is None
        assert "fault of the program" not in log(node)


def test_a_pod_whose_network_namespace_is_gone(node: BareNode) -> None:
    write_pod(node, "one", "pod0", "10.1.0.1")
    path = node.run / "pods" / "one.json"
    record = {**json.loads(path.read_text()), "netns": "/run/netns/gone-with-the-pod"}
    record["annotations"] = {"kubypass.io/socket-lb": "disabled"}
    write_file(path, record)
    with started(node):
        wait(node, lambda: any("Pod default/one" in line for line in problems(node)), "a problem")
        serves_a_change(node, "10.1.0.1")
        assert node.status()["pods"] == 1, "its device is served"
        on(node, "ip", "link", "del", "pod0")
        wait(node, lambda: any("no device pod0" in line for line in problems(node)), "a problem")
        serves_a_change(node, "10.1.0.2")
        path.unlink()
        wait(node, lambda: not problems(node), "no problem")
        assert healthz(node) == (200, "200")
