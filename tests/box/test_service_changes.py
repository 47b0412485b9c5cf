# SPDX-License-Identifier: Apache-2.0
"""Services become something else while they are there, as in Kubernetes' own tests of services."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import delete
from kubypass_lab.box.files import Json, read_all, read_json
from kubypass_lab.box.labels import label_node
from kubypass_lab.box.process import wait_until
from tests.box.conftest import Cluster

pytestmark = pytest.mark.xdist_group("service-changes")
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
EVERY = {4: "0.0.0.0", 6: "[::]"}  # noqa: S104 (how a NodePort is listed)
WEB = "{name: web, port: 80, targetPort: 8080}"
SERVICE = """
    apiVersion: v1
    kind: Service
    metadata: {{name: changing, labels: {{{labels}}}}}
    spec: {{ipFamilyPolicy: RequireDualStack, {spec}}}
    """


@pytest.fixture(autouse=True)
def service(cluster: Cluster) -> Iterator[None]:
    """Each test begins with a ClusterIP service."""
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}]")
    yield
    delete(cluster.box, "service/changing", print)


def apply(cluster: Cluster, spec: str, labels: str = "") -> None:
    cluster.apply(SERVICE.format(spec=spec, labels=labels))


def backends(
    cluster: Cluster, node: str, address: str, port: int, protocol: str = "TCP"
) -> set[str]:
    """Where an agent sends new connections to a frontend."""
    name = cluster.box.topology.node(node).name
    rows = agents.ask(cluster.box.paths, name, "/services")["services"]
    assert isinstance(rows, list)
    return {
        backend["address"].rpartition(":")[0]
        for row in rows
        if row["frontend"] == f"{address}:{port}/{protocol}"
        for backend in row["backends"]
        if backend["state"] == "active"
    }


def is_served(cluster: Cluster, node: str, frontend: tuple[str, int, str], wanted: bool) -> bool:
    return bool(backends(cluster, node, *frontend)) is wanted


def becomes_served(
    cluster: Cluster, address: str, port: int, protocol: str = "TCP", *, served: bool = True
) -> None:
    """Wait until both nodes serve a frontend, or have nothing to do with it."""
    for node in ("node1", "node2"):
        done = wait_until(partial(is_served, cluster, node, (address, port, protocol), served))
        assert done, f"{node}: {address}:{port}"


def echo(cluster: Cluster, version: int) -> set[str]:
    """Addresses of the pods that answer."""
    found = [address for pod in cluster.pods("echo") for address in pod.addresses]
    return {
        f"[{each}]" if ":" in each else each for each in found if (":" in each) == (version == 6)
    }


@FAMILIES
def test_types(cluster: Cluster, version: int) -> None:
    """ClusterIP -> NodePort -> ExternalName -> ClusterIP -> LoadBalancer -> ClusterIP."""
    node = cluster.host(version, "node1")
    address = cluster.host(version, "changing")
    becomes_served(cluster, address, 80)
    ports = f"selector: {{app: echo}}, ports: [{WEB}]"
    apply(cluster, f"type: NodePort, {ports}")
    assert cluster.host(version, "changing") == address
    number = cluster.node_port("changing")
    becomes_served(cluster, EVERY[version], number)
    assert cluster.ask("client", "TCP", node, number)["pod"]
    apply(cluster, "type: ExternalName, externalName: web.example")
    assert "clusterIP" not in cluster.spec("changing")
    becomes_served(cluster, EVERY[version], number, served=False)
    becomes_served(cluster, address, 80, served=False)
    assert cluster.outcome("client", node, number) == "refused"
    for kind in ("ClusterIP", "LoadBalancer", "ClusterIP"):
        apply(cluster, f"type: {kind}, {ports}")
        address = cluster.host(version, "changing")
        becomes_served(cluster, address, 80)
        assert cluster.ask("pod1", "TCP", address, 80)["pod"]
    assert cluster.outcome("client", node, number) == "refused"


@FAMILIES
def test_ports_come_and_go(cluster: Cluster, version: int) -> None:
    address = cluster.host(version, "changing")
    more = "{name: more, port: 81, targetPort: 8080}"
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}, {more}]")
    becomes_served(cluster, address, 81)
    for port in (80, 81):
        assert cluster.ask("pod2", "TCP", address, port)["pod"]
    apply(cluster, f"selector: {{app: echo}}, ports: [{more}]")
    becomes_served(cluster, address, 80, served=False)
    assert cluster.outcome("pod2", address, 80) != "ok"
    assert cluster.ask("pod2", "TCP", address, 81)["pod"]


@FAMILIES
def test_one_number_with_two_protocols(cluster: Cluster, version: int) -> None:
    address = cluster.host(version, "changing")
    ports = [
        "{name: tcp, port: 53, targetPort: 8080}",
        "{name: udp, port: 53, protocol: UDP, targetPort: 5353}",
    ]
    apply(cluster, f"selector: {{app: echo}}, ports: [{', '.join(ports)}]")
    becomes_served(cluster, address, 53, "UDP")
    assert cluster.ask("pod1", "TCP", address, 53)["local"].endswith(":8080")
    assert cluster.ask("pod1", "UDP", address, 53)["local"].endswith(":5353")
    apply(cluster, f"selector: {{app: echo}}, ports: [{ports[1]}]")
    becomes_served(cluster, address, 53, "TCP", served=False)
    assert cluster.ask("pod1", "UDP", address, 53)["pod"]


@FAMILIES
def test_without_a_selector(cluster: Cluster, version: int) -> None:
    """Slices are then made by hand, and stay when the selector comes back."""
    address = cluster.host(version, "changing")
    apply(cluster, f"ports: [{WEB}]")
    becomes_served(cluster, address, 80, served=False)
    cluster.becomes("pod1", address, 80, "refused")
    chosen = min(echo(cluster, version)).strip("[]")
    cluster.apply(
        f"""
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {{name: by-hand, labels: {{kubernetes.io/service-name: changing}}}}
        addressType: IPv{version}
        ports: [{{name: web, port: 8080}}]
        endpoints: [{{addresses: ["{chosen}"]}}]
        """
    )
    becomes_served(cluster, address, 80)
    assert cluster.ask("pod1", "TCP", address, 80)["local"].startswith(
        (f"{chosen}:", f"[{chosen}]:")
    )
    delete(cluster.box, "endpointslice/by-hand", print)
    cluster.becomes("pod1", address, 80, "refused")


@pytest.mark.parametrize(
    "label",
    ["service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/headless: ''"],
)
def test_labels_of_others(cluster: Cluster, label: str) -> None:
    address = cluster.host(4, "changing")
    becomes_served(cluster, address, 80)
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}]", labels=label)
    becomes_served(cluster, address, 80, served=False)
    key, _, _ = label.partition(":")
    assert all(key in str(slice_["metadata"]) for slice_ in slices(cluster))
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}]")
    becomes_served(cluster, address, 80)


def slices(cluster: Cluster) -> list[Json]:
    """The slices of the service."""
    found = [
        raw
        for raw in read_all(cluster.box.paths.manifests)
        if raw["kind"] == "EndpointSlice" and "'changing'" in str(raw["metadata"])
    ]
    assert found
    return found


@FAMILIES
def test_headless_and_back(cluster: Cluster, version: int) -> None:
    address = cluster.host(version, "changing")
    delete(cluster.box, "service/changing", print)
    apply(cluster, f"clusterIP: None, selector: {{app: echo}}, ports: [{WEB}]")
    becomes_served(cluster, address, 80, served=False)
    assert all(
        "service.kubernetes.io/headless" in str(each["metadata"]) for each in slices(cluster)
    )
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}]")
    becomes_served(cluster, cluster.host(version, "changing"), 80)


def becomes_answered_by(cluster: Cluster, place: str, address: str, nodes: set[str]) -> None:
    """Wait until a dozen requests are answered by pods of just these nodes."""

    def answered() -> bool:
        return {cluster.ask(place, "TCP", address, 80)["node"] for _ in range(12)} == nodes

    assert wait_until(answered), (place, nodes)


@FAMILIES
@pytest.mark.parametrize("distribution", ["PreferClose", "PreferSameZone", "PreferSameNode"])
def test_traffic_distribution(cluster: Cluster, version: int, distribution: str) -> None:
    """Each node is a zone: its pods get what its clients ask."""
    address = cluster.host(version, "changing")
    apply(cluster, f"trafficDistribution: {distribution}, selector: {{app: echo}}, ports: [{WEB}]")
    for place, node in (("pod1", "node1"), ("pod2", "node2")):
        name = cluster.box.topology.node(node).name
        becomes_answered_by(cluster, place, address, {name})
    apply(cluster, f"selector: {{app: echo}}, ports: [{WEB}]")
    everyone = {node.name for node in cluster.box.nodes}
    becomes_answered_by(cluster, "pod1", address, everyone)


def test_zones_are_labels(cluster: Cluster) -> None:
    """A node in another node's zone shares its pods; hints are left out for all where a pod has no zone."""
    address, everyone = cluster.host(4, "changing"), {node.name for node in cluster.box.nodes}
    zone = "topology.kubernetes.io/zone"
    spec = f"trafficDistribution: PreferClose, selector: {{app: echo}}, ports: [{WEB}]"
    try:
        for change in (f"{zone}=zone-a", f"{zone}-"):
            label_node(cluster.box, "node2", [change])
            apply(cluster, spec)
            assert ("hints" in str(slices(cluster))) is change.endswith("zone-a")
            for place in ("pod1", "pod2"):
                becomes_answered_by(cluster, place, address, everyone)
    finally:
        label_node(cluster.box, "node2", [f"{zone}=zone-b"])


def test_what_the_api_server_fills_in(cluster: Cluster) -> None:
    apply(
        cluster,
        "type: LoadBalancer, externalTrafficPolicy: Local, sessionAffinity: ClientIP, "
        f"selector: {{app: echo}}, ports: [{WEB}]",
    )
    spec: dict[str, Any] = cluster.spec("changing")
    check = spec["healthCheckNodePort"]
    assert 30000 <= int(str(check)) <= 32767
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    assert spec["internalTrafficPolicy"] == "Cluster"
    apply(
        cluster, f"type: LoadBalancer, externalTrafficPolicy: Local, selector: {{}}, ports: [{WEB}]"
    )
    assert cluster.spec("changing")["healthCheckNodePort"] == check
    apply(cluster, f"type: LoadBalancer, selector: {{}}, ports: [{WEB}]")
    assert "healthCheckNodePort" not in cluster.spec("changing")


def test_a_status_stays(cluster: Cluster) -> None:
    """What a load balancer wrote is not taken away by one who applies the spec."""
    spec = f"type: LoadBalancer, selector: {{app: echo}}, ports: [{WEB}]"
    status = "\n    status: {loadBalancer: {ingress: [{ip: 198.51.100.99}]}}"
    cluster.apply(SERVICE.format(spec=spec, labels="") + status)
    becomes_served(cluster, "198.51.100.99", 80)
    apply(cluster, spec)
    stored = read_json(cluster.box.paths.manifests / "service_default_changing.json")
    assert stored is not None
    assert "198.51.100.99" in str(stored["status"])
    assert cluster.ask("client", "TCP", "198.51.100.99", 80)["pod"]
