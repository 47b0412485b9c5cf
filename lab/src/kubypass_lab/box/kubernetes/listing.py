# SPDX-License-Identifier: Apache-2.0
"""Lists what is in a cluster: its nodes, pods and services, as rows of text."""

from __future__ import annotations

from kubypass_lab.box.kubernetes.cluster import Cluster
from kubypass_lab.box.kubernetes.kubectl import kubectl
from kubypass_lab.box.paths import CLIENT
from kubypass_lab.box.topology import CLIENT_ADDRESSES

POD = "pod/"


def describe_cluster(cluster: Cluster) -> dict[str, list[dict[str, str]]]:
    """Nodes, pods and services as rows of text, with the columns of a box without Kubernetes."""
    client = ",".join(text.split("/")[0] for text in CLIENT_ADDRESSES)
    outside = {"name": CLIENT, "host": "-", "addresses": client, "pods": "-", "ready": "-"}
    return {
        "nodes": [*_describe_nodes(cluster), outside],
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
    return [{**row, "name": f"{POD}{row['name']}"} for row in _rows(cluster, "pods", columns)]


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
    """Objects of all namespaces as rows, with one cell for each JSONPath."""
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
