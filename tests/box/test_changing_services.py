# SPDX-License-Identifier: Apache-2.0
"""Services whose ports, types, labels and slices change, as Kubernetes' end-to-end tests change them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubypass_lab.box.process import wait_until
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port
from tests.box.scene_rows import REFUSED, SILENT

pytestmark = pytest.mark.xdist_group("scenes")
INSIDE = ("pod1", "node2", "stray1")
WEB, OTHER = Port(80, 8080), Port(81, 8081, name="other")


def test_several_ports(scene: Scene) -> None:
    """One port's slice goes to some servers, the other's to others."""
    service = scene.service(WEB, OTHER)
    scene.put_service(service)
    scene.put_endpoints(service, [Endpoint("a1"), Endpoint("b2")], [WEB])
    scene.put_endpoints(service, [Endpoint("a2")], [OTHER], slice_name="-other")
    scene.settle()
    scene.check(service, [(place, "cluster", {"a1", "b2"}) for place in INSIDE], WEB)
    scene.check(service, [(place, "cluster", {"a2"}) for place in INSIDE], OTHER)


def test_one_number_with_two_protocols(scene: Scene) -> None:
    tcp, udp = Port(80, 8080), Port(80, 5353, "UDP", name="datagrams")
    service = scene.put(scene.service(tcp, udp, node_ports=True))
    both = (*((place, "cluster", ALL) for place in INSIDE), ("client", "node1", ALL))
    scene.check(service, both, service.ports[0])
    scene.check(service, both, service.ports[1])
    only_udp = scene.put(replace(service, ports=service.ports[1:]))
    scene.check(only_udp, both, only_udp.ports[0])
    scene.check(service, [("pod1", "cluster", REFUSED)], service.ports[0])


def test_ports_come_and_go(scene: Scene) -> None:
    service = scene.put(scene.service(WEB))
    scene.check(service, [("pod1", "cluster", REFUSED), ("client", "cluster", REFUSED)], OTHER)
    scene.put(replace(service, ports=(WEB, OTHER)))
    scene.check(service, [(place, "cluster", ALL) for place in INSIDE], OTHER)
    scene.put(replace(service, ports=(OTHER,)))
    scene.check(service, [(place, "cluster", ALL) for place in INSIDE], OTHER)
    scene.check(service, [("pod1", "cluster", REFUSED), ("client", "cluster", REFUSED)], WEB)


def test_a_node_port_moves(scene: Scene) -> None:
    before = scene.put(scene.service(node_ports=True))
    scene.check(before, [("client", "node1", ALL)])
    after = replace(before, ports=(replace(WEB, node_port=before.ports[0].node_port + 1),))
    scene.put(after)
    scene.check(after, [("client", "node1", ALL), ("pod2", "node2", ALL), ("node1", "node1", ALL)])
    scene.check(before, [("client", "node1", REFUSED), ("pod2", "node2", REFUSED)])


def test_types_change(scene: Scene) -> None:
    """ExternalName -> ClusterIP -> NodePort -> LoadBalancer -> ClusterIP -> ExternalName."""
    service = scene.service(node_ports=True)
    name = replace(
        service, ports=(WEB,), spec={"type": "ExternalName", "externalName": "example.org"}
    )
    cluster_ip = replace(service, ports=(WEB,), spec={"type": "ClusterIP"})
    ingress = tuple(service.external(version) for version in (4, 6))
    balancer = replace(service, spec={"type": "LoadBalancer"}, ingress=ingress)
    scene.put(name)
    scene.check(service, [("stray1", "cluster", SILENT)])
    scene.put(cluster_ip)
    scene.check(service, [(place, "cluster", ALL) for place in INSIDE])
    scene.check(service, [("client", "node1", REFUSED)])
    scene.put(service)
    scene.check(
        service, [("pod1", "cluster", ALL), ("client", "node1", ALL), ("client", "node2", ALL)]
    )
    scene.put(balancer)
    rows = [(place, "ingress1", ALL) for place in (*INSIDE, "client")]
    scene.check(service, [*rows, ("client", "node2", ALL), ("pod1", "cluster", ALL)])
    scene.put(cluster_ip)
    scene.check(service, [("pod2", "cluster", ALL), ("client", "node1", REFUSED)])
    scene.put(name)
    scene.check(service, [("stray1", "cluster", SILENT), ("client", "node1", REFUSED)])


@pytest.mark.parametrize(
    "label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"]
)
def test_labels_take_a_service_away_and_bring_it_back(scene: Scene, label: str) -> None:
    service = scene.put(scene.service(node_ports=True))
    present = [("pod1", "cluster", ALL), ("node1", "cluster", ALL), ("client", "node1", ALL)]
    scene.check(service, present)
    scene.put(replace(service, labels={label: ""}))
    scene.check(service, [("client", "node1", REFUSED), ("node1", "node1", REFUSED)])
    scene.put(service)
    scene.check(service, present)


def test_headless_and_back(scene: Scene) -> None:
    service = scene.put(scene.service())
    scene.put(service.with_spec(clusterIP="None", clusterIPs=["None"]))
    scene.check(service, [("stray2", "cluster", SILENT)])
    scene.put(service)
    scene.check(service, [(place, "cluster", ALL) for place in INSIDE])


def test_a_named_port_has_a_number_for_each_slice(scene: Scene) -> None:
    """Servers answer on 8080 and 8081: `local` tells which was asked."""
    service = scene.service()
    scene.put_service(service)
    scene.put_endpoints(service, [Endpoint("a1")], [Port(80, 8080)])
    scene.put_endpoints(service, [Endpoint("a2")], [Port(80, 8081)], slice_name="-second")
    scene.settle()
    scene.check(service, [(place, "cluster", {"a1", "a2"}) for place in (*INSIDE, "client")])
    for answer in scene.ask(service, "pod1", "cluster", 4, count=8):
        port = {"a1": "8080", "a2": "8081"}[str(answer["pod"])]
        assert str(answer["local"]).endswith(f":{port}")


def test_endpoints_move_between_slices(scene: Scene) -> None:
    service = scene.put(scene.service(), [Endpoint("a1")])
    scene.put_endpoints(service, [Endpoint("b2")], slice_name="-second")
    scene.settle()
    scene.check(service, [(place, "cluster", {"a1", "b2"}) for place in INSIDE])
    for version in (4, 6):
        scene.remove(f"slice_default_{service.name}-v{version}")
    scene.settle()
    scene.check(service, [(place, "cluster", {"b2"}) for place in INSIDE])


def test_deleted_and_made_again(scene: Scene) -> None:
    service = scene.put(scene.service(node_ports=True))
    scene.remove(f"service_default_{service.name}")
    scene.settle()
    scene.check(service, [("client", "node1", REFUSED)])
    scene.put_service(service)
    scene.settle()
    scene.check(service, [("client", "node1", ALL), ("pod2", "cluster", ALL)])


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_a_node_port_of_another_service_takes_the_datagrams_along(
    scene: Scene, version: int
) -> None:
    """The service that had it lives on, with the backend that the client's flow has."""
    datagrams = Port(80, 5353, "UDP", name="datagrams")
    first = scene.put(scene.service(datagrams, node_ports=True), [Endpoint("a2")])
    second = scene.put(scene.service(datagrams), [])
    port = first.ports[0]

    def answering() -> set[str]:
        answers = scene.ask(first, "client", "node1", version, port, source_port=40404 + version)
        return {str(answer.get("pod", answer["outcome"])) for answer in answers}

    assert answering() == {"a2"}
    scene.put(replace(first, ports=(datagrams,), spec={"type": "ClusterIP"}), [Endpoint("a2")])
    assert answering() == {"a2"}, "no service is to have the NodePort: the flow is left alone"
    scene.put(replace(second, ports=(port,), spec={"type": "NodePort"}), [])
    assert answering() == {"a2"}, "its new owner has no endpoint"
    scene.put(replace(second, ports=(port,), spec={"type": "NodePort"}), [Endpoint("b1")])
    assert wait_until(lambda: answering() == {"b1"})
