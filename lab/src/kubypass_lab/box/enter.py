# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a node, in the client or in a pod: a command joins the cgroup, then enters the namespace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from kubypass.errors import ConfigError, KubypassError
from kubypass_lab.box.agents import agent_environment
from kubypass_lab.box.box import Box
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.record import read_pods

_RUN = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command runs: a node, the client or a pod."""

    name: str
    namespace: str
    cgroup: Path
    env: dict[str, str]
    init: int = 0  # a process whose namespaces are all entered, not only that of the network


def find_target(box: Box, name: str) -> Target:
    """Find a target by name: node1, a host's name, client, or pod/NAME, where NAME may be a prefix."""
    paths = box.paths
    if name == CLIENT:
        return Target(CLIENT, paths.namespace(CLIENT), paths.host_cgroup(CLIENT), {})
    if name.startswith("pod/"):
        return _find_pod(box, name.removeprefix("pod/"))
    try:
        node = box.topology.node(name).name
    except KeyError:
        known = ", ".join(f"{node.alias} ({node.name})" for node in box.nodes)
        raise ConfigError(
            f"{name}: no such target in box {paths.name}", f"there are client, {known}, pod/NAME"
        ) from None
    return Target(
        node, paths.namespace(node), paths.host_cgroup(node), agent_environment(paths, node)
    )


def command_in(target: Target, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a target."""
    network = f"--net=/run/netns/{target.namespace}"
    whole = ["-t", str(target.init), "-m", "-u", "-n", "-p", "-C"]
    enter_namespace = ["nsenter", *(whole if target.init else [network]), "--"]
    return ["sh", "-c", _RUN, "sh", str(target.cgroup), *enter_namespace, *argv]


def run_in(
    target: Target, argv: Sequence[str], timeout_s: float = 2 * DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Run a command in a target to its end. The caller judges the exit code."""
    env = {**os.environ, **target.env}
    return subprocess.run(
        command_in(target, argv),
        capture_output=True,
        text=True,
        check=False,
        env=env,
        timeout=timeout_s,
    )


def enter(box: Box, name: str, argv: Sequence[str]) -> NoReturn:
    """Replace this process by a command in a target; the command is a shell if none is given."""
    target = find_target(box, name)
    os.environ.update(target.env)
    command = command_in(target, argv or [os.environ.get("SHELL", "/bin/sh")])
    os.execvp(command[0], command)  # noqa: S606 (becoming the command is the point)


def _find_pod(box: Box, name: str) -> Target:
    pods = [pod for pod in read_pods(box.paths) if pod.state != "terminating"]
    found = [pod for pod in pods if pod.name == name] or [
        pod for pod in pods if pod.name.startswith(name)
    ]
    names = ", ".join(f"pod/{pod.name}" for pod in (found or pods)) or "none"
    if not found:
        raise KubypassError(
            f"pod/{name}: no such pod in box {box.paths.name}", f"pods are: {names}"
        )
    if len(found) > 1:
        raise ConfigError(f"pod/{name}: fits several pods", f"say which: {names}")
    pod = found[0]
    return Target(
        pod.name, box.paths.pod_namespace(pod.id), box.paths.pod_cgroup(pod.node, pod.id), {}
    )
