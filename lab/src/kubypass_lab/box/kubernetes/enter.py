# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a cluster's nodes, in its client, and with kubectl in its pods."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from kubypass.errors import ConfigError
from kubypass_lab.box.enter import Target, command_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl_environment
from kubypass_lab.box.kubernetes.listing import POD, describe_pods
from kubypass_lab.box.kubernetes.node import node_target
from kubypass_lab.box.paths import CLIENT


def cluster_target(cluster: Cluster, name: str) -> Target:
    """Find a target by name: node1, a node's name or client."""
    paths = cluster.paths
    if name == CLIENT:
        environment = {
            **kubectl_environment(paths),
            "PATH": f"{os.environ['PATH']}:{paths.programs}",
        }
        return Target(CLIENT, paths.namespace(CLIENT), paths.host_cgroup(CLIENT), environment)
    try:
        return node_target(paths, cluster.topology.node(name).name)
    except KeyError:
        known = ", ".join(f"{node.alias} ({node.name})" for node in cluster.nodes)
        message = f"{name}: no such target in cluster {paths.name}"
        raise ConfigError(message, f"there are client, {known}, pod/NAME") from None


def enter_cluster(cluster: Cluster, name: str, argv: Sequence[str]) -> NoReturn:
    """Replace this process by a command in a target; the command is a shell if none is given."""
    if name.startswith(POD):
        target = cluster_target(cluster, CLIENT)
        namespace, pod = find_pod(cluster, name.removeprefix(POD))
        options = ["-i", *(["-t"] if sys.stdin.isatty() else []), "-n", namespace, pod]
        argv = ["kubectl", "exec", *options, "--", *(argv or ["sh"])]
    else:
        target = cluster_target(cluster, name)
        argv = argv or [os.environ.get("SHELL", "/bin/sh")]
    os.environ.update(target.env)
    command = command_in(target, argv)
    os.execvp(command[0], command)  # noqa: S606 (becoming the command is the point)


def find_pod(cluster: Cluster, name: str) -> tuple[str, str]:
    """Find the one pod whose name is `name` or begins with it; returns its namespace and name."""
    rows = describe_pods(cluster)
    known = [(row["namespace"], row["name"].removeprefix(POD)) for row in rows]
    found = [each for each in known if each[1] == name]
    found = found or [each for each in known if each[1].startswith(name)]
    names = ", ".join(f"{POD}{each[1]}" for each in (found or known)) or "none"
    if not found:
        message = f"{POD}{name}: no such pod in cluster {cluster.paths.name}"
        raise ConfigError(message, f"pods are: {names}")
    if len(found) > 1:
        raise ConfigError(f"{POD}{name}: fits several pods", f"say which: {names}")
    return found[0]
