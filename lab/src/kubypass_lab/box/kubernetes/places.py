# SPDX-License-Identifier: Apache-2.0
"""Runs commands in a cluster's nodes, in its client, and by kubectl in its pods."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from kubypass.errors import ConfigError
from kubypass_lab.box.enter import Place, command_in
from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl, kubectl_environment
from kubypass_lab.box.kubernetes.node import node_place
from kubypass_lab.box.kubernetes.programs import programs_directory
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.topology import CLIENT_ADDRESSES

_POD = "pod/"


def cluster_place(cluster: Cluster, target: str) -> Place:
    """The place that `target` names: node1, a node's name or client."""
    paths = cluster.paths
    if target == CLIENT:
        environment = {
            **kubectl_environment(paths),
            "PATH": f"{os.environ['PATH']}:{programs_directory()}",
        }
        return Place(CLIENT, paths.namespace(CLIENT), paths.host_cgroup(CLIENT), environment)
    try:
        return node_place(paths, cluster.topology.node(target).name)
    except KeyError:
        known = ", ".join(f"{node.alias} ({node.name})" for node in cluster.nodes)
        message = f"{target}: no such place in cluster {paths.name}"
        raise ConfigError(message, f"there are client, {known}, pod/NAME") from None


def enter_cluster(cluster: Cluster, target: str, argv: Sequence[str]) -> NoReturn:
    """Become a command (a shell if none is given) in a place, with this process's terminal."""
    if target.startswith(_POD):
        place = cluster_place(cluster, CLIENT)
        namespace, name = find_pod(cluster, target.removeprefix(_POD))
        options = ["-i", *(["-t"] if sys.stdin.isatty() else []), "-n", namespace, name]
        argv = ["kubectl", "exec", *options, "--", *(argv or ["sh"])]
    else:
        place = cluster_place(cluster, target)
        argv = argv or [os.environ.get("SHELL", "/bin/sh")]
    os.environ.update(place.env)
    command = command_in(place, argv)
    os.execvp(command[0], command)  # noqa: S606 (becoming the command is the point)


def find_pod(cluster: Cluster, name: str) -> tuple[str, str]:
    """Namespace and name of the one pod that is called `name`, or begins so."""
    rows = describe_pods(cluster)
    known = [(row["namespace"], row["name"].removeprefix(_POD)) for row in rows]
    found = [each for each in known if each[1] == name]
    found = found or [each for each in known if each[1].startswith(name)]
    names = ", ".join(f"{_POD}{each[1]}" for each in (found or known)) or "none"
    if not found:
        message = f"{_POD}{name}: no such pod in cluster {cluster.paths.name}"
        raise ConfigError(message, f"pods are: {names}")
    if len(found) > 1:
        raise ConfigError(f"{_POD}{name}: fits several pods", f"say which: {names}")
    return found[0]


def describe_cluster(cluster: Cluster) -> dict[str, list[dict[str, str]]]:
    """Nodes, pods and services as rows of text, as of a box without Kubernetes."""
    client = ",".join(text.split("/")[0] for text in CLIENT_ADDRESSES)
    away = {"name": CLIENT, "host": "-", "addresses": client, "pods": "-", "ready": "-"}
    return {
        "nodes": [*_describe_nodes(cluster), away],
        "pods": describe_pods(cluster),
        "services": _rows(
            cluster,
            "services",
            {
                "namespace": ".metadata.namespace",
                "name": ".metadata.name",
                "type": ".spec.type",
                "cluster-ip": ".spec.clusterIPs[*]",
                "ports": ".spec.ports[*].port",
                "node-ports": ".spec.ports[*].nodePort",
            },
        ),
    }


def describe_pods(cluster: Cluster) -> list[dict[str, str]]:
    """Pods as rows of text."""
    columns = {
        "namespace": ".metadata.namespace",
        "name": ".metadata.name",
        "node": ".spec.nodeName",
        "addresses": ".status.podIPs[*].ip",
        "state": ".status.phase",
    }
    return [{**row, "name": f"{_POD}{row['name']}"} for row in _rows(cluster, "pods", columns)]


def _describe_nodes(cluster: Cluster) -> list[dict[str, str]]:
    columns = {
        "host": ".metadata.name",
        "addresses": '.status.addresses[?(@.type=="InternalIP")].address',
        "pods": ".spec.podCIDRs[*]",
        "ready": '.status.conditions[?(@.type=="Ready")].status',
    }
    found = {row["host"]: row for row in _rows(cluster, "nodes", columns)}
    unknown = {"addresses": "-", "pods": "-", "ready": "not registered"}
    return [
        {"name": node.alias, "host": node.name, **found.get(node.name, unknown)}
        for node in cluster.nodes
    ]


def _rows(cluster: Cluster, kind: str, columns: dict[str, str]) -> list[dict[str, str]]:
    """Objects of all namespaces, with a text for each JSONPath."""
    cells = "{'\\t'}".join(f"{{{path}}}" for path in columns.values())
    template = f"jsonpath={{range .items[*]}}{cells}{{'\\n'}}{{end}}"
    said = kubectl(cluster.paths, "get", kind, "-A", "-o", template)
    return [
        {
            name: cell.replace(" ", ",") or "-"
            for name, cell in zip(columns, line.split("\t"), strict=True)
        }
        for line in said.splitlines()
    ]
