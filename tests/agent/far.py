# SPDX-License-Identifier: Apache-2.0
"""What is at the other end of a bare node's uplink: clients and a backend in a namespace of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode

NODE, BACKEND = "192.168.1.31", "192.168.1.50"
NODE_PORT = 30080


@contextmanager
def neighbours(node: BareNode, clients: Sequence[str]) -> Iterator[str]:
    """A namespace with the clients' addresses and the backend's; its path."""
    name = f"{node.namespace}-far"
    addresses = [f"addr add {address}/24 dev far" for address in (*clients, BACKEND)]
    lines = "\n".join(["link set lo up", "link set far up", *addresses])
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(
            ["ip", "-n", node.namespace, "link", "set", "far", "netns", name], check=True
        )
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=lines, text=True, check=True)
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def write_node_port(node: BareNode) -> None:
    """A service with the one backend there."""
    web = named_service("web", "10.96.0.1")
    web["spec"] = {
        "type": "NodePort",
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ports": [{"port": 80, "nodePort": NODE_PORT}],
    }
    write_file(node.manifests / "service.json", web)
    write_file(node.manifests / "slice.json", named_slice("web", [BACKEND], 8080))
