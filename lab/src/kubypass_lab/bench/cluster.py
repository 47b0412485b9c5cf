# SPDX-License-Identifier: Apache-2.0
"""Manifests of clusters of any size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kubypass.kernel import files

Object = dict[str, object]
CHANGED = "slice-changed.json"
"""The file of the slice of service 0."""


def service(number: int, node_port: int = 0) -> Object:
    """A service with one port, and a NodePort if one is given."""
    return named_service(
        f"service-{number}", f"10.96.{number >> 8 & 255}.{number & 255}", node_port
    )


def named_service(name: str, address: str, node_port: int = 0) -> Object:
    """A service with one port, by name and address, and a NodePort if one is given."""
    port = {"port": 80, "nodePort": node_port} if node_port else {"port": 80}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort" if node_port else "ClusterIP",
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [port],
        },
    }


def numbered_slice(number: int, endpoints: int, shift: int = 0) -> Object:
    """The slice of a numbered service. Another `shift` changes one endpoint."""
    numbers = [(number * endpoints + shift + at) & 0xFFFFFF for at in range(endpoints)]
    addresses = [f"10.{128 + (n >> 16 & 63)}.{n >> 8 & 255}.{n & 255}" for n in numbers]
    return named_slice(f"service-{number}", addresses, 8080)


def named_slice(service_name: str, addresses: list[str], port: int) -> Object:
    """The slice of a named service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-slice",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addresses],
    }


def write_file(path: Path, item: Mapping[str, object]) -> None:
    """Write one object (or List) in one step."""
    files.write_file(path, json.dumps(item).encode(), durable=False)


def write_list(path: Path, items: list[Object]) -> None:
    """Write a List."""
    write_file(path, {"apiVersion": "v1", "kind": "List", "items": items})


def write_cluster(directory: Path, services: int, endpoints: int) -> None:
    """Write two Lists, and the slice of service 0, which has a separate file."""
    write_list(directory / "services.json", [service(n) for n in range(services)])
    slices = [numbered_slice(n, endpoints) for n in range(1, services)]
    write_list(directory / "slices.json", slices)
    write_file(directory / CHANGED, numbered_slice(0, endpoints))
