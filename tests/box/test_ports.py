# SPDX-License-Identifier: Apache-2.0
"""A node and an outside client use the same source ports towards the same pods at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from kubypass_lab.box.enter import command_in, find_target
from tests.box.conftest import Cluster

SCRIPT = str(Path(__file__).with_name("ask_from_ports.py"))
PORTS = 16
FIRST_PORTS = count(20000, PORTS)  # each test has its own, none is an ephemeral one


@contextmanager
def kept_open(cluster: Cluster, host: str, address: str, port: str, first: str) -> Iterator[None]:
    """Connections from a row of ports stay open for the block, and are used again after it."""
    argv = [sys.executable, SCRIPT, address, port, first, str(PORTS), "keep"]
    command = command_in(find_target(cluster.box, host), argv)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ) as client:
        assert client.stdin
        assert client.stdout
        assert client.stdout.readline() == "open\n"
        yield
        client.stdin.write("go\n")
    assert client.returncode == 0


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("nginx", ["nginx1", "nginx2"])
def test_ports_of_ended_connections(cluster: Cluster, version: int, nginx: str) -> None:
    first = str(next(FIRST_PORTS))
    node, pod = (cluster.host(version, name).strip("[]") for name in ("node1", nginx))
    port = str(cluster.node_port("my-nginx"))
    cluster.run("client", sys.executable, SCRIPT, node, port, first, str(PORTS))
    cluster.run("node1", sys.executable, SCRIPT, pod, "80", first, str(PORTS))


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_ports_of_open_connections(cluster: Cluster, version: int) -> None:
    first = str(next(FIRST_PORTS))
    node, pod = (cluster.host(version, name).strip("[]") for name in ("node1", "nginx2"))
    port = str(cluster.node_port("my-nginx"))
    with kept_open(cluster, "client", node, port, first):
        cluster.run("node1", sys.executable, SCRIPT, pod, "80", first, str(PORTS))


LOCAL = """
    apiVersion: v1
    kind: Service
    metadata: {name: my-nginx-local}
    spec:
      type: NodePort
      externalTrafficPolicy: Local
      ipFamilyPolicy: RequireDualStack
      selector: {run: my-nginx}
      ports: [{port: 80, targetPort: 80}]
    """


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_ports_of_open_connections_to_the_pod_itself(cluster: Cluster, version: int) -> None:
    """The pod's node knows nothing of them, and the NodePort there leaves the client its address."""
    cluster.apply(LOCAL)
    first = str(next(FIRST_PORTS))
    node, pod = (cluster.host(version, name).strip("[]") for name in ("node2", "nginx2"))
    port = str(cluster.node_port("my-nginx-local"))
    with kept_open(cluster, "node1", pod, "80", first):
        cluster.run("node1", sys.executable, SCRIPT, node, port, first, str(PORTS))
