# SPDX-License-Identifier: Apache-2.0
"""Objects in files: two nodes, a NodePort service with an endpoint on each, and pods."""

from __future__ import annotations

from typing import Any

NODES = {"node1": "192.168.1.11", "node2": "192.168.1.12"}
CLIENT = "203.0.113.9"


def node(name: str) -> dict[str, Any]:
    addresses = [{"type": "InternalIP", "address": NODES[name]}]
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses},
    }  # fmt: skip


def pod(name: str, address: str, where: str = "node1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": where, **spec},
        "status": {"podIP": address, "podIPs": [{"ip": address}]},
    }  # fmt: skip


OBJECTS = [
    node("node1"),
    node("node2"),
    {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local",
                 "ports": [{"port": 80, "nodePort": 30080}]},
    },
    {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 8080}],
        "endpoints": [
            {"addresses": ["10.244.1.5"], "nodeName": "node1"},
            {"addresses": ["10.244.2.5"], "nodeName": "node2"},
        ],
    },
    pod("client", "10.244.1.9"),
    pod("away", "10.244.2.9", "node2"),
    pod("in-host", NODES["node1"], hostNetwork=True),
    pod("web-0", "10.244.1.5", containers=[{"ports": [{"containerPort": 80, "hostPort": 8081}]}]),
]  # fmt: skip
