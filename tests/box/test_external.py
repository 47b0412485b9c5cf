# SPDX-License-Identifier: Apache-2.0
"""External addresses and load balancers' ones, and annotations: which of them there are, where, and for whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import delete
from kubypass_lab.box.labels import label_node
from kubypass_lab.box.patience import ANSWER_S, SHORT_S
from kubypass_lab.box.process import wait_until
from tests.box.conftest import Cluster

pytestmark = pytest.mark.xdist_group("external")
EXTERNAL, VIP, PROXIED = (
    {4: f"198.51.100.{last}", 6: f"[2001:db8:51::{last}]"} for last in (1, 2, 3)
)
PLACES = ("node1", "node2", "pod1", "pod2", "client")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])

SERVICE = """
    apiVersion: v1
    kind: Service
    metadata: {{name: outside, annotations: {{{annotations}}}}}
    spec:
      type: LoadBalancer
      ipFamilyPolicy: RequireDualStack
      selector: {{app: echo}}
      ports: [{{port: 8000, targetPort: web}}]
      externalIPs: [198.51.100.1, "2001:db8:51::1"]
      {spec}
    status:
      loadBalancer:
        ingress:
        - {{ip: 198.51.100.2}}
        - {{ip: "2001:db8:51::2", ipMode: VIP}}
        - {{ip: 198.51.100.3, ipMode: Proxy}}
        - {{ip: "2001:db8:51::3", ipMode: Proxy}}
        - {{hostname: lb.example}}
    """


def apply(cluster: Cluster, annotations: str = "", spec: str = "") -> None:
    cluster.apply(SERVICE.format(annotations=annotations, spec=spec))


@pytest.fixture(scope="module", autouse=True)
def service(cluster: Cluster) -> Iterator[None]:
    apply(cluster)
    yield
    delete(cluster.box, "service/outside", print)


@pytest.fixture(autouse=True)
def restore(cluster: Cluster) -> Iterator[None]:
    """Each test ends with the service as it was."""
    yield
    apply(cluster)
    for version in (4, 6):
        becomes_answered(cluster, "client", VIP[version], 8000)


def is_answered(
    cluster: Cluster, place: str, address: str, port: int, patience_s: float = ANSWER_S
) -> bool:
    return cluster.outcome(place, address, port, patience_s) not in ("refused", "silent")


def becomes_answered(cluster: Cluster, place: str, address: str, port: int) -> None:
    assert wait_until(lambda: is_answered(cluster, place, address, port, 2 * SHORT_S)), (
        place,
        address,
    )


@FAMILIES
@pytest.mark.parametrize("place", PLACES)
def test_from_everywhere(cluster: Cluster, version: int, place: str) -> None:
    assert is_answered(cluster, place, EXTERNAL[version], 8000)
    assert is_answered(cluster, place, VIP[version], 8000)


@FAMILIES
def test_ip_mode_proxy(cluster: Cluster, version: int) -> None:
    """Nodes have nothing to do with it; the node port works."""
    addresses = {frontend["frontend"].rpartition(":")[0] for frontend in frontends(cluster)}
    assert PROXIED[version] not in addresses
    assert is_answered(
        cluster, "client", cluster.host(version, "node1"), cluster.node_port("outside")
    )


def frontends(cluster: Cluster, node: str = "node1") -> list[dict[str, str]]:
    name = cluster.box.topology.node(node).name
    said: dict[str, Any] = agents.ask(cluster.box.paths, name, "/services")
    return said["services"]


def test_no_node_ports(cluster: Cluster) -> None:
    port = cluster.node_port("outside")
    delete(cluster.box, "service/outside", print)
    apply(cluster, spec="allocateLoadBalancerNodePorts: false")
    assert "nodePort" not in cluster.spec("outside")["ports"][0]
    becomes_answered(cluster, "client", VIP[4], 8000)
    cluster.becomes("client", cluster.host(4, "node1"), port, "refused")
    delete(cluster.box, "service/outside", print)


@FAMILIES
def test_source_ranges(cluster: Cluster, version: int) -> None:
    """Only of the load balancer's address; those who may not use it hear nothing."""
    client = {4: "203.0.113.0/24", 6: "2001:db8:cafe::/64"}[version]
    port = cluster.node_port("outside")
    apply(cluster, spec=f'loadBalancerSourceRanges: ["{client}"]')
    cluster.becomes("pod1", VIP[version], 8000, "silent")
    assert is_answered(cluster, "client", VIP[version], 8000)
    assert is_answered(cluster, "pod1", EXTERNAL[version], 8000)
    assert is_answered(cluster, "pod1", cluster.host(version, "node1"), port)
    # Of the other family there is no range: everybody may.
    assert is_answered(cluster, "pod1", VIP[10 - version], 8000)
    apply(
        cluster,
        '"service.cilium.io/src-ranges-policy": deny',
        f'loadBalancerSourceRanges: ["{client}"]',
    )
    cluster.becomes("client", VIP[version], 8000, "silent")
    assert is_answered(cluster, "pod1", VIP[version], 8000)


@FAMILIES
def test_type_annotation(cluster: Cluster, version: int) -> None:
    node, port = cluster.host(version, "node1"), cluster.node_port("outside")
    cluster_ip = cluster.host(version, "outside")
    apply(cluster, '"service.cilium.io/type": LoadBalancer')
    cluster.becomes("client", node, port, "refused")
    assert is_answered(cluster, "client", VIP[version], 8000)
    assert is_answered(cluster, "client", EXTERNAL[version], 8000)
    assert not is_answered(cluster, "pod1", cluster_ip, 8000, SHORT_S)
    apply(cluster, '"service.cilium.io/type": "ClusterIP,NodePort"')
    becomes_answered(cluster, "pod1", cluster_ip, 8000)
    assert is_answered(cluster, "client", node, port)
    assert not is_answered(cluster, "client", VIP[version], 8000, SHORT_S)


def test_a_wrong_type_is_told(cluster: Cluster) -> None:
    apply(cluster, '"service.cilium.io/type": Everything')

    def told() -> bool:
        problems = cluster.status("node1")["problems"]
        return any("service.cilium.io/type is 'Everything'" in p["message"] for p in problems)

    assert wait_until(told)
    assert is_answered(cluster, "client", VIP[4], 8000)


@FAMILIES
@pytest.mark.parametrize(
    "annotation", ["node: beefy", "node-selector: service.cilium.io/node in (beefy)"]
)
def test_only_nodes_with_a_label(cluster: Cluster, version: int, annotation: str) -> None:
    """The address is taken as soon as a node has it."""
    port = cluster.node_port("outside")
    name, _, value = annotation.partition(": ")
    apply(cluster, f'"service.cilium.io/{name}": "{value}"')
    first, second = (cluster.host(version, node) for node in ("node1", "node2"))
    cluster.becomes("client", first, port, "refused")
    cluster.becomes("client", second, port, "refused")
    label_node(cluster.box, "node2", ["service.cilium.io/node=beefy"])
    becomes_answered(cluster, "client", second, port)
    assert cluster.outcome("client", first, port) == "refused"
    label_node(cluster.box, "node2", ["service.cilium.io/node-"])
    cluster.becomes("client", second, port, "refused")


@FAMILIES
def test_local_policy_and_health_check(cluster: Cluster, version: int) -> None:
    """The route leads to node1: only its pod answers, and sees the client."""
    apply(cluster, spec="externalTrafficPolicy: Local")
    node1 = cluster.box.topology.node("node1").name
    (mine,) = [pod.name for pod in cluster.pods("echo") if pod.node == node1]

    def only_mine() -> bool:
        return {cluster.outcome("client", VIP[version], 8000) for _ in range(8)} == {mine}

    assert wait_until(only_mine)
    client = cluster.ask("client", "TCP", VIP[version], 8000)["client"]
    assert client.startswith({4: "203.0.113.9:", 6: "[2001:db8:cafe::9]:"}[version])
    check = cluster.spec("outside")["healthCheckNodePort"]
    answer = cluster.run(
        "client",
        "curl",
        "-sg",
        "-m",
        f"{ANSWER_S:.0f}",
        f"http://{cluster.host(version, 'node1')}:{check}/",
    )
    assert json.loads(answer)["localEndpoints"] == 1, "a pod with two addresses"


def test_an_external_address_that_is_a_cluster_address(cluster: Cluster) -> None:
    """Each is served on its own port, and the one that took another's address is told."""
    taken = cluster.host(4, "echo")
    cluster.apply(
        f"""
        apiVersion: v1
        kind: Service
        metadata: {{name: taker}}
        spec: {{selector: {{app: echo}}, ports: [{{port: 8001, targetPort: 8080}}], externalIPs: [{taken}]}}
        """
    )
    becomes_answered(cluster, "pod1", taken, 8001)
    assert is_answered(cluster, "pod1", taken, 80)
    problems = cluster.problems("Service default/taker")
    assert len(problems) == 1
    assert "the ClusterIP of service default/echo" in problems[0]
    delete(cluster.box, "service/taker", print)


@FAMILIES
def test_an_external_address_that_is_a_nodes(cluster: Cluster, version: int) -> None:
    """It is served; where it meets an older service's node port, that one stays, and the other one is told."""
    node, port = cluster.host(version, "node1"), cluster.node_port("my-nginx")
    cluster.apply(
        f"""
        apiVersion: v1
        kind: Service
        metadata: {{name: taker}}
        spec:
          ipFamilyPolicy: RequireDualStack
          selector: {{app: echo}}
          ports: [{{name: a, port: 8002, targetPort: 8080}}, {{name: b, port: {port}, targetPort: 8080}}]
          externalIPs: ["{node.strip("[]")}"]
        """
    )
    becomes_answered(cluster, "client", node, 8002)
    assert "Welcome to nginx" in cluster.run(
        "client", "curl", "-sSg", "-m", f"{ANSWER_S:.0f}", f"http://{node}:{port}/"
    )
    problems = cluster.problems("Service default/taker")
    assert len(problems) == 1
    assert f"{node}:{port}/TCP" in problems[0]
    assert "service default/my-nginx's" in problems[0]
    delete(cluster.box, "service/taker", print)
