# SPDX-License-Identifier: Apache-2.0
"""Traffic policies, external addresses, source ranges, and which address of the client a server sees."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from tests.box.conftest import Cluster
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port, Service
from tests.box.scene_rows import REFUSED, SILENT, Row

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(80, 8080, "UDP", name="datagrams")
CLIENT = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}
ON_NODE1 = [Endpoint("a1"), Endpoint("b1")]
LOCAL_TO_1 = {"a1", "b1"}
EXTERNAL_LOCAL = {"externalTrafficPolicy": "Local"}


def external_addresses(service: Service) -> list[str]:
    return [service.external(v, node) for v in (4, 6) for node in ("node1", "node2")]


def load_balancer(scene: Scene, **spec: Any) -> Service:
    """The addresses of the balancer are `ingress1` and `ingress2`."""
    service = scene.service(TCP, UDP, node_ports=True, type="LoadBalancer", **spec)
    return replace(service, ingress=tuple(external_addresses(service)))


def seen_client(answer: dict[str, object]) -> str:
    """The client's address without its port, as a server saw it."""
    return str(answer["client"]).rpartition(":")[0].strip("[]")


def keeps_clients(scene: Scene, port: Port) -> bool:
    """Whether backends answer clients outside by themselves; by then each node knows that the other one takes part."""
    words = ""

    def known() -> bool:
        nonlocal words
        modes = [
            dict(Cluster(scene.box).status(node)["forwarding_mode"]) for node in ("node1", "node2")
        ]
        words = modes[0]["wanted"].partition(" ")[0]
        peers = [peer for mode in modes for peer in mode.get("peers", ())]
        return words == "SNAT" or (len(peers) >= 4 and all(p["dispatch"] != "snat" for p in peers))

    assert wait_until(known, DEADLINE_S)
    return words == "DSR" or (words == "Hybrid" and port.protocol == "TCP")


@pytest.mark.parametrize("kind", ["externalIPs", "load balancer"])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_addresses_of_no_machine(scene: Scene, kind: str, policy: str) -> None:
    """Pods, nodes and a client outside ask. Under Local those in the cluster use all endpoints, others the node's."""
    if kind == "externalIPs":
        service = scene.service(TCP, UDP, externalTrafficPolicy=policy)
        service = service.with_spec(externalIPs=external_addresses(service))
    else:
        service = load_balancer(scene, externalTrafficPolicy=policy)
    scene.put(service, ON_NODE1)
    inside = ("pod1", "pod2", "node1", "node2", "stray1", "stray2")
    rows: list[Row] = [
        (host, to, LOCAL_TO_1) for host in inside for to in ("external1", "external2")
    ]
    rows.append(("client", "external1", LOCAL_TO_1))
    rows.append(("client", "external2", LOCAL_TO_1 if policy == "Cluster" else SILENT))
    for port in service.ports:
        scene.check(service, rows, port)


def test_the_short_circuit_ignores_the_internal_policy(scene: Scene) -> None:
    """Pods and nodes that use an external address under Local get all endpoints even where iTP is Local too."""
    service = load_balancer(scene, internalTrafficPolicy="Local", **EXTERNAL_LOCAL)
    scene.put(service, [Endpoint("a1")])
    scene.check(service, [
        ("pod2", "ingress1", {"a1"}), ("node2", "ingress2", {"a1"}), ("pod2", "node2", {"a1"}),
        ("pod2", "cluster", SILENT), ("node2", "cluster", SILENT), ("client", "ingress2", SILENT),
    ])  # fmt: skip


@pytest.mark.parametrize("port", [TCP, UDP], ids=["TCP", "UDP"])
def test_source_addresses(scene: Scene, port: Port) -> None:
    """The client's address is kept from pod to pod and under eTP Local, and by a service in DSR mode.

    Under eTP Cluster it is masqueraded where the answer has to pass the node.
    """
    cluster = scene.put(scene.service(port, node_ports=True), [Endpoint("a1")])
    local = scene.put(scene.service(port, node_ports=True, **EXTERNAL_LOCAL), [Endpoint("a1")])
    wrong, direct = [], keeps_clients(scene, port)
    for version in (4, 6):
        outside = CLIENT[version] if direct else ""
        rows = [
            (cluster, "pod1", "cluster", {scene.address("pod1", version)}),
            (cluster, "pod2", "cluster", {scene.address("pod2", version)}),
            (local, "client", "node1", {CLIENT[version]}),
            (local, "pod2", "node2", {scene.address("pod2", version)}),
            (cluster, "client", "node1", {outside or scene.address("node1", version)}),
            (cluster, "client", "node2", {outside or scene.address("node2", version)}),
            (cluster, "node2", "cluster", {scene.address("node2", version)}),
            (cluster, "stray2", "cluster", {scene.address("node2", version)}),
            (cluster, "stray1", "cluster", {scene.address("node1", version)}),
        ]
        for service, host, to, expected in rows:
            (answer,) = scene.ask(service, host, to, version)
            if answer["outcome"] != "ok" or seen_client(answer) not in expected:
                wrong.append(f"IPv{version} {host} -> {to}: expected {expected}, found {answer}")
    assert not wrong, "\n".join(wrong)


def test_source_ranges(scene: Scene) -> None:
    """They guard the load balancer's address alone, against everyone, and change live."""
    ranges = [f"{CLIENT[4]}/32", " 2001:db8:cafe::/64"]
    service = load_balancer(scene, loadBalancerSourceRanges=ranges)
    scene.put(service)
    open_to_all: list[Row] = [
        ("pod1", "cluster", ALL),
        ("client", "node1", ALL),
        ("pod2", "node2", ALL),
    ]
    guarded: list[Row] = [
        (host, "ingress1", SILENT) for host in ("pod1", "pod2", "node1", "stray2")
    ]
    for port in service.ports:
        scene.check(service, [("client", "ingress1", ALL), *guarded, *open_to_all], port)
    service = service.with_spec(
        loadBalancerSourceRanges=["10.233.64.0/18", "fd85:ee78:d8a6:8607::1:0/112"]
    )
    scene.put(service)
    rows: list[Row] = [
        ("pod1", "ingress1", ALL),
        ("pod2", "ingress2", ALL),
        ("client", "ingress2", SILENT),
    ]
    scene.check(service, [*rows, ("node1", "ingress1", SILENT), *open_to_all])
    scene.put(service.with_spec(loadBalancerSourceRanges=[]))
    scene.check(service, [(host, "ingress2", ALL) for host in ("client", "pod1", "node2")])


def test_source_ranges_come_before_the_answer_that_nothing_serves(scene: Scene) -> None:
    ranges = [f"{CLIENT[4]}/32", f"{CLIENT[6]}/128"]
    service = scene.put(load_balancer(scene, loadBalancerSourceRanges=ranges), [])
    scene.check(service, [("client", "ingress1", REFUSED), ("pod1", "ingress1", SILENT)])


def test_unused_ports_of_external_addresses_are_nobodys(scene: Scene) -> None:
    """The network sent the packet here and would again: it is dropped, not sent round."""
    service = scene.put(load_balancer(scene))
    scene.check(service, [("client", "ingress1", SILENT)], Port(99, 0))
    scene.check(
        service, [("client", "cluster", REFUSED), ("pod1", "cluster", REFUSED)], Port(99, 0)
    )


def test_health_check_node_port(scene: Scene) -> None:
    """200 with a local ready endpoint, 503 without; terminating ones do not count."""
    service = load_balancer(scene, healthCheckNodePort=32100, **EXTERNAL_LOCAL)
    scene.put(service, ON_NODE1)

    def answers(node: str, version: int) -> tuple[str, int]:
        host = scene.address(node, version)
        host = f"[{host}]" if version == 6 else host
        text = scene.run(
            "client", "curl", "-sg", "-w", "\n%{http_code}", f"http://{host}:32100/any"
        )
        body, _, code = text.rpartition("\n")
        return code, json.loads(body)["localEndpoints"] if body else -1

    def expect(node1: tuple[str, int], node2: tuple[str, int]) -> None:
        wanted = [node1, node1, node2, node2]
        asked = [(node, version) for node in ("node1", "node2") for version in (4, 6)]
        found: list[tuple[str, int]] = []

        def settled() -> bool:
            found[:] = [answers(*each) for each in asked]
            return found == wanted

        assert wait_until(settled), found

    expect(("200", 2), ("503", 0))
    ending = Endpoint("a1", ready=False, serving=True, terminating=True)
    scene.put_endpoints(service, [ending, Endpoint("a2")])
    expect(("503", 0), ("200", 1))
    scene.check(service, [("client", "ingress1", {"a1"})])
    scene.put_service(service.with_spec(externalTrafficPolicy="Cluster"))
    expect(("000", -1), ("000", -1))


def test_policies_change_live(scene: Scene) -> None:
    service = scene.put(scene.service(node_ports=True), [Endpoint("a1")])
    scene.check(service, [("client", "node2", {"a1"}), ("pod2", "cluster", {"a1"})])
    scene.put_service(service.with_spec(internalTrafficPolicy="Local", **EXTERNAL_LOCAL))
    scene.settle()
    scene.check(
        service,
        [("client", "node2", SILENT), ("pod2", "cluster", SILENT), ("client", "node1", {"a1"})],
    )
    scene.put_service(service)
    scene.settle()
    scene.check(service, [("client", "node2", {"a1"}), ("pod2", "cluster", {"a1"})])
