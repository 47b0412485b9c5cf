# SPDX-License-Identifier: Apache-2.0
"""Runs a command in a node, in the client or in a pod: its cgroup first, then its namespace."""

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
from kubypass_lab.box.record import read_pods

_RUN = 'echo 0 > "$1/cgroup.procs" && shift && exec "$@"'


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs."""

    name: str
    namespace: str
    cgroup: Path
    env: dict[str, str]
    init: int = 0  # a process all of whose namespaces are meant, not only the network's


def find_place(box: Box, target: str) -> Place:
    """The place that `target` names: node1, a host's name, client, or pod/NAME or its prefix."""
    paths = box.paths
    if target == CLIENT:
        return Place(CLIENT, paths.namespace(CLIENT), paths.host_cgroup(CLIENT), {})
    if target.startswith("pod/"):
        return _find_pod(box, target.removeprefix("pod/"))
    try:
        node = box.topology.node(target).name
    except KeyError:
        known = ", ".join(f"{node.alias} ({node.name})" for node in box.nodes)
        raise ConfigError(
            f"{target}: no such place in box {paths.name}", f"there are client, {known}, pod/NAME"
        ) from None
    return Place(
        node, paths.namespace(node), paths.host_cgroup(node), agent_environment(paths, node)
    )


def command_in(place: Place, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in a place."""
    target = f"--net=/run/netns/{place.namespace}"
    whole = ["-t", str(place.init), "-m", "-u", "-n", "-p", "-C"]
    enter_namespace = ["nsenter", *(whole if place.init else [target]), "--"]
    return ["sh", "-c", _RUN, "sh", str(place.cgroup), *enter_namespace, *argv]


def run_in(
    place: Place, argv: Sequence[str], timeout_s: float = 20.0
) -> subprocess.CompletedProcess[str]:
    """Run a command in a place to its end; its exit code is the caller's to judge."""
    env = {**os.environ, **place.env}
    return subprocess.run(
        command_in(place, argv),
        capture_output=True,
        text=True,
        check=False,
        env=env,
        timeout=timeout_s,
    )


def enter(box: Box, target: str, argv: Sequence[str]) -> NoReturn:
    """Become a command (a shell if none is given) in a place, with this process's terminal."""
    place = find_place(box, target)
    os.environ.update(place.env)
    command = command_in(place, argv or [os.environ.get("SHELL", "/bin/sh")])
    os.execvp(command[0], command)  # noqa: S606 (becoming the command is the point)


def _find_pod(box: Box, name: str) -> Place:
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
    return Place(
        pod.name, box.paths.pod_namespace(pod.id), box.paths.pod_cgroup(pod.node, pod.id), {}
    )
