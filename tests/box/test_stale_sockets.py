# SPDX-License-Identifier: Apache-2.0
"""Connected sockets whose backend is replaced: they are told, and the next connection gets the new backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubypass_lab.box.apply import apply_files, scale
from kubypass_lab.box.process import wait_until
from tests.box.clients import TOLD, closed, connected
from tests.box.conftest import Cluster
from tests.box.held_sockets import check_tcp

pytestmark = pytest.mark.xdist_group("changes")

MOVING = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: moving}
spec:
  selector: {matchLabels: {app: moving}}
  template:
    metadata: {labels: {app: moving}, annotations: {round: "ROUND"}}
    spec:
      containers:
      - name: moving
        image: registry.example/echo:1
        ports: [{name: dns, containerPort: 5353, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: moving}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: moving}
  ports: [{name: dns, port: 53, targetPort: dns, protocol: UDP}]
"""


@pytest.fixture
def move(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[int], str]]:
    """Applies another round of the Deployment: its pod is replaced; returns the new one's name."""
    manifest = tmp_path / "moving.yaml"

    def move(number: int) -> str:
        manifest.write_text(MOVING.replace("ROUND", str(number)))
        apply_files(cluster.box, [manifest], print)
        (pod,) = cluster.pods("moving")
        return pod.name

    yield move
    scale(cluster.box, "deployment/moving", 0, print)


def test_connected_udp_sockets_leave_a_backend_that_is_gone(
    cluster: Cluster, move: Callable[[int], str]
) -> None:
    """Sockets of pods and of the node are closed, however they dialled; those that dialled the pod itself stay."""
    before, old = closed(cluster, "UDP"), move(1)
    node_port = cluster.node_port("moving", "UDP")
    (pod,) = cluster.pods("moving")
    with ExitStack() as stack:
        clients = []
        for host in ("pod1", "pod2", "node1"):
            node = "node2" if host == "pod2" else "node1"
            targets = [(cluster.host(version, "moving"), 53) for version in (4, 6)]
            targets += [(cluster.host(version, node), node_port) for version in (4, 6)]
            targets.append((f"::ffff:{targets[0][0]}", 53))
            clients += [
                stack.enter_context(connected(cluster, host, "UDP", *each)) for each in targets
            ]
        direct = [
            stack.enter_context(connected(cluster, "pod1", "UDP", address, 5353))
            for address in pod.addresses
        ]
        assert {client.hear() for client in (*clients, *direct)} == {old}
        new = move(2)
        assert new != old
        for client in clients:
            client.tell("wait")
        assert [client.hear() in TOLD for client in clients] == [True] * len(clients)
        assert [client.hear() for client in clients] == [new] * len(clients)
        assert [client.ask("peer") for client in direct] == list(pod.addresses)
    expected = [before[0] + 10, before[1] + 5]
    assert wait_until(lambda: closed(cluster, "UDP") == expected)
    text = f'kubypass_sockets_closed_total{{protocol="udp"}} {expected[0]}.0\n'
    assert text in cluster.run("node1", "kubypass", "metrics")


def test_sockets_of_a_service_without_endpoints_are_left_alone(
    cluster: Cluster, move: Callable[[int], str]
) -> None:
    """There is nothing better for them; a later replacement is noticed all the same."""
    old, address = move(3), cluster.host(4, "moving")
    with connected(cluster, "pod1", "UDP", address, 53) as left, ExitStack() as stack:
        assert left.hear() == old
        scale(cluster.box, "deployment/moving", 0, print)
        new, total = move(4), sum(closed(cluster, "UDP"))
        witness = stack.enter_context(connected(cluster, "pod1", "UDP", address, 53))
        assert witness.hear() == new
        last = move(5)
        assert witness.ask("wait") in TOLD
        assert witness.hear() == last
        assert left.ask("peer") == address
    assert wait_until(lambda: sum(closed(cluster, "UDP")) == total + 1)


def test_tcp_connections_go_on(cluster: Cluster, tmp_path: Path) -> None:
    check_tcp(cluster, tmp_path, ends=False)
