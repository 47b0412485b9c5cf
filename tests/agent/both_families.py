# SPDX-License-Identifier: Apache-2.0
"""A second service, of IPv6 only, beside the one of far.py, and a client of each family."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import write_file
from kubypass_lab.bench.node import BareNode
from kubypass_lab.box.patience import ANSWER_S
from tests.agent.dialler import CLIENT
from tests.agent.far import BACKEND, NODE, NODE_PORT

NODE6, CLIENT6, BACKEND6 = "fd00:c0a8:1::31", "fd00:c0a8:1::40", "fd00:c0a8:1::50"
NODE_PORT6 = NODE_PORT + 1


def add_ipv6(node: BareNode, far: str) -> None:
    """A second service of IPv6 only, and addresses for it."""
    commands = [
        (node.namespace, f"addr add {NODE6}/64 dev eth0 nodad"),
        (Path(far).name, f"addr add {CLIENT6}/64 dev far nodad"),
        (Path(far).name, f"addr add {BACKEND6}/64 dev far nodad"),
    ]
    for namespace, words in commands:
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    labels = {"kubernetes.io/service-name": "web6"}
    address = {"clusterIP": "fd00:96::6", "clusterIPs": ["fd00:96::6"], "ipFamilies": ["IPv6"]}
    ports = [{"port": 80, "nodePort": NODE_PORT6}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web6", "namespace": "default"},
        "spec": {"type": "NodePort", **address, "ports": ports},
    }
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web6", "namespace": "default", "labels": labels},
        "addressType": "IPv6",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [BACKEND6], "conditions": {"ready": True}}],
    }
    write_file(node.manifests / "service6.json", service)
    write_file(node.manifests / "slice6.json", endpoint_slice)


@contextmanager
def two_clients(far: str) -> Iterator[list[tuple[socket.socket, tuple[str, int], socket.socket]]]:
    """Yields (client, its NodePort, the listener of its backend) for each family."""
    made = []
    with ExitStack() as stack, inside(far):
        for family, address, backend, node_port in (
            (socket.AF_INET, CLIENT, BACKEND, (NODE, NODE_PORT)),
            (socket.AF_INET6, CLIENT6, BACKEND6, (NODE6, NODE_PORT6)),
        ):
            listener = stack.enter_context(socket.create_server((backend, 8080), family=family))
            client = stack.enter_context(socket.socket(family))
            client.bind((address, 0))
            client.settimeout(ANSWER_S)
            made.append((client, node_port, listener))
        yield made
