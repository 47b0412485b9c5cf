# SPDX-License-Identifier: Apache-2.0
"""Describes what is in a box: nodes, pods and services."""

from __future__ import annotations

import msgspec

from kubypass_lab.box import agents
from kubypass_lab.box.box import Box
from kubypass_lab.box.files import read_all
from kubypass_lab.box.objects import Service, ServicePort
from kubypass_lab.box.process import is_alive
from kubypass_lab.box.record import read_pods
from kubypass_lab.box.topology import CLIENT_ADDRESSES


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
    manifests = read_all(box.paths.manifests)
    services = [msgspec.convert(raw, Service) for raw in manifests if raw.get("kind") == "Service"]
    return {
        "nodes": nodes,
        "pods": pods,
        "services": [_describe_service(each) for each in services],
    }


def _describe_service(service: Service) -> dict[str, str]:
    return {
        "namespace": service.metadata.namespace,
        "name": f"service/{service.metadata.name}",
        "type": service.spec.type,
        "cluster-ip": ",".join(service.spec.cluster_ips or ["-"]),
        "ports": ",".join(map(_describe_port, service.spec.ports or ())) or "-",
    }


def _describe_port(port: ServicePort) -> str:
    return f"{port.port}{f':{port.node_port}' if port.node_port else ''}/{port.protocol}"
