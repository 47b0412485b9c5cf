# SPDX-License-Identifier: Apache-2.0
"""Failures of a cluster's parts: programs that crash, nodes that lose power."""

from __future__ import annotations

import signal

from kubypass_lab.box.files import read_json
from kubypass_lab.box.kubernetes.paths import ClusterPaths
from kubypass_lab.box.process import kill_cgroup, parse_process, stop

_CRASH_S = 10.0
_POWER_OFF_S = 30.0


def crash_program(paths: ClusterPaths, name: str) -> None:
    """Kill a program of the control plane."""
    stop(parse_process(read_json(paths.process_record(name))), signal.SIGKILL, _CRASH_S)


def power_off(paths: ClusterPaths, node: str) -> None:
    """Kill everything in a node, with its mounts; its disk stays."""
    kill_cgroup(paths.node_cgroup(node), _POWER_OFF_S)
