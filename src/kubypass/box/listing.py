# SPDX-License-Identifier: Apache-2.0
"""Describes what is in a box: nodes, pods and services."""

from __future__ import annotations

from kubypass.box import agents
from kubypass.box.box import Box
from kubypass.box.files import Json, read_all
from kubypass.box.process import is_alive
from kubypass.box.record import read_pods
from kubypass.box.topology import CLIENT_ADDRESSES


def describe_box(box: Box) -> dict[str, list[dict[str, str]]]:
    """Nodes, pods and services as rows of text."""
    nodes = [
        {
            "name": node.alias,
            "host": node.name,
            "addresses": ",".join(str(each.ip) for each in node.addresses),
            "pods": ",".join(map(str, node.pod_cidrs)),
            "agent": "running" if agents.is_running(box.paths, node.name) else "not running",
        }
        for node in box.nodes
    ]
    client = ",".join(text.split("/")[0] for text in CLIENT_ADDRESSES)
    nodes.append({"name": "client", "host": "-", "addresses": client, "pods": "-", "agent": "-"})
    pods = [
        {
            "namespace": pod.namespace,
            "name": f"pod/{pod.name}",
            "node": pod.node,
            "addresses": ",".join(pod.addresses),
            "state": pod.state if all(map(is_alive, pod.processes)) else "ended",
        }
        for pod in read_pods(box.paths)
    ]
    services = [_describe_service(raw) for raw in read_all(box.paths.manifests) if raw.get("kind") == "Service"]
    return {"nodes": nodes, "pods": pods, "services": services}


def format_box(description: dict[str, list[dict[str, str]]]) -> str:
    """The description as tables."""
    return "\n\n".join(_format_table(rows) for rows in description.values() if rows)


def _describe_service(raw: Json) -> dict[str, str]:
    metadata, spec = raw["metadata"], raw["spec"]
    assert isinstance(metadata, dict)
    assert isinstance(spec, dict)
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}/{port.get('protocol', 'TCP')}"
        for port in spec.get("ports") or ()
    ]
    return {
        "namespace": str(metadata.get("namespace", "default")),
        "name": f"service/{metadata['name']}",
        "type": str(spec.get("type", "ClusterIP")),
        "cluster-ip": ",".join(spec.get("clusterIPs") or ["-"]),
        "ports": ",".join(ports) or "-",
    }


def _format_table(rows: list[dict[str, str]]) -> str:
    lines = [[key.upper() for key in rows[0]], *([*row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
