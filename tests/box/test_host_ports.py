# SPDX-License-Identifier: Apache-2.0
"""Ports of pods on their node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.box.apply import delete
from kubypass_lab.box.process import wait_until
from tests.box.conftest import Cluster

pytestmark = pytest.mark.xdist_group("host-ports")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
POD = """
    apiVersion: v1
    kind: Pod
    metadata: {{name: {name}, labels: {{app: host-ports}}}}
    spec:
      nodeName: node1
      containers:
      - {{name: web, image: registry.example/echo:1, ports: [{ports}]}}
    """
PORTS = """
    {containerPort: 8080, hostPort: 8800}, {containerPort: 5353, hostPort: 8800, protocol: UDP},
    {containerPort: 8081, hostPort: 8801, hostIP: 127.0.0.1},
    {containerPort: 8082, hostPort: 8801, hostIP: 192.168.1.31}
"""


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Iterator[str]:
    cluster.apply(POD.format(name="host-ports", ports=PORTS))
    yield "host-ports"
    delete(cluster.box, "pod/host-ports", print)


@FAMILIES
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
@pytest.mark.parametrize("place", ["node1", "node2", "pod1", "pod2", "client"])
def test_from_everywhere(
    cluster: Cluster, pod: str, version: int, protocol: str, place: str
) -> None:
    answer = cluster.ask(place, protocol, cluster.host(version, "node1"), 8800)
    assert answer["pod"] == pod
    assert answer["local"].endswith(":8080" if protocol == "TCP" else ":5353")


@FAMILIES
@pytest.mark.parametrize("place", ["client", "pod1", "pod2"])
def test_the_clients_address_is_kept(cluster: Cluster, pod: str, version: int, place: str) -> None:
    answer = cluster.ask(place, "TCP", cluster.host(version, "node1"), 8800)
    assert answer["pod"] == pod
    mine = cluster.run(place, "hostname", "-I") if place == "client" else ""
    for each in cluster.pods("visitor"):
        if f"pod/{each.name}" == cluster.place(place):
            mine = " ".join(each.addresses)
    assert answer["client"].rpartition(":")[0].strip("[]") in mine.split()


@FAMILIES
def test_loopback_is_the_nodes_alone(cluster: Cluster, pod: str, version: int) -> None:
    loopback = cluster.host(version, "loopback")
    assert cluster.outcome("node1", loopback, 8800) == pod
    for place in ("node2", "pod1", f"pod/{pod}"):
        assert cluster.outcome(place, loopback, 8800) == "refused"


def test_addresses_of_their_own(cluster: Cluster, pod: str) -> None:
    """The same port on another address is another port."""
    assert cluster.ask("node1", "TCP", "127.0.0.1", 8801)["local"].endswith(":8081")
    for place in ("node1", "node2", "pod1", "pod2", "client"):
        assert cluster.ask(place, "TCP", "192.168.1.31", 8801)["local"].endswith(":8082")
    for place in (f"pod/{pod}", "pod1"):
        assert cluster.outcome(place, "127.0.0.1", 8801) == "refused"
    assert cluster.outcome("client", cluster.host(6, "node1"), 8801) == "refused"


@FAMILIES
def test_another_node_has_none(cluster: Cluster, pod: str, version: int) -> None:
    del pod
    assert cluster.outcome("client", cluster.host(version, "node2"), 8800) == "refused"


def test_a_pod_that_was_made_again(cluster: Cluster) -> None:
    """The pod's successor, with another address, has the port at once."""
    address, before = cluster.host(4, "node1"), ""
    for port in (8080, 8081, 8080):
        ports = f"{{containerPort: {port}, hostPort: 8810}}"
        cluster.apply(POD.format(name="again", ports=ports))
        cluster.becomes("client", address, 8810, "again")
        local = cluster.ask("client", "TCP", address, 8810)["local"]
        assert local.endswith(f":{port}")
        assert local != before
        before = local
    delete(cluster.box, "pod/again", print)
    cluster.becomes("client", address, 8810, "refused")


def test_two_pods_with_one_port(cluster: Cluster) -> None:
    """The older one has it, the other one is told, and takes over."""
    address, ports = cluster.host(4, "node1"), "{containerPort: 8080, hostPort: 8820}"
    cluster.apply(POD.format(name="first", ports=ports))
    cluster.apply(POD.format(name="second", ports=ports))

    def told() -> list[str]:
        return cluster.problems("Pod default/second")

    assert wait_until(lambda: bool(told()))
    assert "8820/TCP" in told()[0]
    assert "pod default/first's" in told()[0]
    assert cluster.outcome("client", address, 8820) == "first"
    delete(cluster.box, "pod/first", print)
    cluster.becomes("client", address, 8820, "second")
    assert not told()
    delete(cluster.box, "pod/second", print)


def test_a_service_with_the_same_node_port(cluster: Cluster) -> None:
    """It comes first, though it is younger."""
    ports, address = "{containerPort: 8080, hostPort: 31999}", cluster.host(4, "node1")
    cluster.apply(POD.format(name="in-range", ports=ports))
    cluster.becomes("client", address, 31999, "in-range")
    cluster.apply(
        """
        apiVersion: v1
        kind: Service
        metadata: {name: same-port}
        spec: {type: NodePort, selector: {app: nothing}, ports: [{port: 80, nodePort: 31999}]}
        """
    )
    cluster.becomes("client", address, 31999, "refused")
    problems = cluster.problems("Pod default/in-range")
    assert len(problems) == 1
    assert "service default/same-port's" in problems[0]
    delete(cluster.box, "service/same-port", print)
    cluster.becomes("client", address, 31999, "in-range")
    delete(cluster.box, "pod/in-range", print)
