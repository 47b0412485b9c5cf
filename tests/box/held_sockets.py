# SPDX-License-Identifier: Apache-2.0
"""Connected sockets of a service, one of whose backends is taken out."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from kubypass_lab.box.apply import apply_files
from tests.box.clients import TOLD, connected
from tests.box.conftest import Cluster

HELD = """
apiVersion: v1
kind: Service
metadata: {name: held}
spec:
  ports:
  - {name: tcp, port: 80, targetPort: 8080}
  - {name: udp, port: 80, targetPort: 5353, protocol: UDP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: held-1, labels: {kubernetes.io/service-name: held}}
addressType: IPv4
ports: [{name: tcp, port: 8080, protocol: TCP}, {name: udp, port: 5353, protocol: UDP}]
endpoints: [ENDPOINTS]
"""


def hold(cluster: Cluster, directory: Path, pods: list[str]) -> None:
    """A service of these pods of `echo`, all of which live on."""
    addresses = [pod.addresses[0] for pod in cluster.pods("echo") if pod.name in pods]
    endpoints = ", ".join(f"{{addresses: [{address}]}}" for address in addresses)
    manifest = directory / "held.yaml"
    manifest.write_text(HELD.replace("ENDPOINTS", endpoints))
    apply_files(cluster.box, [manifest], print)


def check_tcp(cluster: Cluster, directory: Path, *, ends: bool) -> None:
    """A backend is taken out of the slice: UDP is told in any case, TCP if it `ends`."""
    one, other = (pod.name for pod in cluster.pods("echo"))
    hold(cluster, directory, [one])
    address = cluster.host(4, "held")
    with ExitStack() as stack:
        clients = [
            stack.enter_context(connected(cluster, host, protocol, address, 80))
            for host in ("pod1", "node1")
            for protocol in ("TCP", "UDP")
        ]
        assert [client.hear() for client in clients] == [one] * 4
        hold(cluster, directory, [other])
        for client in clients[1::2]:
            assert client.ask("wait") in TOLD
            assert client.hear() == other
        for client in clients[::2]:
            if ends:
                assert client.ask("wait") in TOLD
                assert client.hear() == other
            else:
                assert client.ask("ask") == one
