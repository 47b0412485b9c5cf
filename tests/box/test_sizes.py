# SPDX-License-Identifier: Apache-2.0
"""Fragmented datagrams, and paths that are narrower than both ends know."""

from __future__ import annotations

import pytest

from kubypass_lab.box.paths import CLIENT, FABRIC
from kubypass_lab.box.wiring import ip_batch
from tests.box.conftest import Cluster
from tests.box.exchanges import exchange
from tests.box.narrow_ways import narrow

MTU = 1400
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


def every_pod_answers(
    cluster: Cluster, host: str, kind: str, to: tuple[str, int], size: int
) -> None:
    """Backends of the node that is asked, and of another."""
    wanted, seen = {pod.name for pod in cluster.pods("echo")}, set()
    for _ in range(40):
        seen.add(exchange(cluster, host, kind, to, size))
        if seen == wanted:
            break
    assert seen == wanted


@FAMILIES
@pytest.mark.parametrize("size", [3000, 9000, 40000])
@pytest.mark.parametrize("host", ["client", "pod2"])
def test_big_datagrams_to_a_node_port(cluster: Cluster, version: int, host: str, size: int) -> None:
    to = (cluster.host(version, "node1"), cluster.node_port("echo", "UDP"))
    every_pod_answers(cluster, host, "SOCK_DGRAM", to, size)


@FAMILIES
@pytest.mark.parametrize("size", [3000, 9000])
def test_big_datagrams_to_a_cluster_ip(cluster: Cluster, version: int, size: int) -> None:
    """The client outside sends it, where no socket call is translated."""
    fabric, address = cluster.box.paths.namespace(FABRIC), cluster.host(version, "echo").strip("[]")
    route = f"{address} via {cluster.box.topology.node('node1').address(version)}"
    ip_batch(fabric, [f"route add {route}"])
    try:
        every_pod_answers(cluster, "client", "SOCK_DGRAM", (address, 53), size)
    finally:
        ip_batch(fabric, [f"route delete {route}"])


@FAMILIES
@pytest.mark.parametrize("size", [3000, 40000])
def test_datagrams_whose_last_fragment_comes_first(
    cluster: Cluster, version: int, size: int
) -> None:
    to = (cluster.host(version, "node1"), cluster.node_port("echo", "UDP"))
    every_pod_answers(cluster, CLIENT, "backwards", to, size)


@FAMILIES
def test_a_router_says_that_replies_are_too_big(cluster: Cluster, version: int) -> None:
    """The router's errors are about the translated packets, and are for the pods that have sent them."""
    to = (cluster.host(version, "node1"), cluster.node_port("echo"))
    with narrow(cluster, FABRIC, version):
        every_pod_answers(cluster, "client", "SOCK_STREAM", to, 30000)


@FAMILIES
@pytest.mark.parametrize("offload", ["on", "off"])
def test_a_node_says_that_replies_are_too_big(cluster: Cluster, version: int, offload: str) -> None:
    """The device by which the error leaves may write checksums, and the quoted packet's may be left to one."""
    node = cluster.box.topology.node("node1").name
    pods = [pod for pod in cluster.pods("echo") if pod.node == node]
    to = (cluster.host(version, "node1"), cluster.node_port("echo"))
    for pod in pods:
        cluster.run(node, "ethtool", "-K", pod.interface, "tx", offload)
    with narrow(cluster, node, version):
        every_pod_answers(cluster, "client", "SOCK_STREAM", to, 30000)
    for pod in pods:
        cluster.run(node, "ethtool", "-K", pod.interface, "tx", "on")
