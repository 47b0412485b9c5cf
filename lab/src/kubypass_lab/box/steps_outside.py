# SPDX-License-Identifier: Apache-2.0
"""The end of the demo's step g: pods reach a server outside of the cluster, which sees the addresses of their nodes."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kubypass_lab.box.box import Box
from kubypass_lab.box.checks import Checks
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S
from kubypass_lab.box.process import spawn, stop, wait_until
from kubypass_lab.box.steps_basic import Scenario
from kubypass_lab.box.topology import CLIENT_ADDRESSES

PORT = 8088


@contextmanager
def server_outside(box: Box) -> Iterator[None]:
    """A server on the client's host, by TCP and UDP, for the length of a block."""
    words = ["--pod", "outside", "--node", "none", "--tcp", str(PORT), "--udp", str(PORT)]
    server = spawn(
        [sys.executable, "-m", "kubypass_lab.box.responder", *words],
        cgroup=box.paths.host_cgroup(CLIENT),
        namespace=box.paths.namespace(CLIENT),
        log=box.paths.root / "outside.log",
        env=dict(os.environ),
    )
    try:
        here = find_target(box, CLIENT)
        command = ["curl", "-s", "-m", f"{ANSWER_S:.0f}", f"http://127.0.0.1:{PORT}/"]
        wait_until(lambda: "outside" in run_in(here, command).stdout)
        yield
    finally:
        stop(server, signal.SIGKILL, DEADLINE_S)


def reach_outside(checks: Checks, scenario: Scenario) -> None:
    """The end of step g: a pod of each node asks the server, in each family."""
    checks.step("g. the other way: pods reach the outside, which sees the addresses of their nodes")
    box = scenario.box
    outside = [ipaddress.ip_interface(text).ip for text in CLIENT_ADDRESSES]
    with server_outside(box):
        for pod in scenario.pods():
            node = box.topology.node(pod.node)
            for address in outside:
                if address.version not in box.topology.families:
                    continue
                host = f"[{address}]" if address.version == 6 else str(address)
                url = f"http://{host}:{PORT}/"
                command = ["curl", "-sSg", "-m", f"{ANSWER_S:.0f}", url]
                answer = run_in(find_target(box, f"pod/{pod.name}"), command)
                seen = _client(answer.stdout) or answer.stderr.strip()
                wanted = str(node.address(address.version))
                checks.check(f"pod/{pod.name} → {url}, which sees", wanted, seen)


def _client(answer: str) -> str:
    """The address that the server has seen."""
    try:
        return str(json.loads(answer)["client"]).rpartition(":")[0].strip("[]")
    except (ValueError, KeyError):
        return ""
