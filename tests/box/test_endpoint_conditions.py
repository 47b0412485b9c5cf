# SPDX-License-Identifier: Apache-2.0
"""Endpoints that are not ready, that terminate, that are gone: who still gets connections, and who is refused."""

from __future__ import annotations

import pytest

from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port
from tests.box.scene_rows import REFUSED, SILENT, Row

pytestmark = pytest.mark.xdist_group("scenes")
EVERYWHERE = ("pod1", "pod2", "node1", "node2", "stray1")
TCP = Port(80, 8080)
UDP = Port(53, 5353, "UDP", name="dns")


def unready(*servers: str) -> list[Endpoint]:
    return [Endpoint(name, ready=False, serving=False) for name in servers]


def ending(*servers: str) -> list[Endpoint]:
    return [Endpoint(name, ready=False, serving=True, terminating=True) for name in servers]


def test_unready_endpoints_get_nothing(scene: Scene) -> None:
    service = scene.put(
        scene.service(node_ports=True), [Endpoint("a2"), *unready("a1", "b1", "b2")]
    )
    scene.check(service, [(place, "cluster", {"a2"}) for place in EVERYWHERE])
    scene.check(service, [("client", "node1", {"a2"}), ("client", "node2", {"a2"})])
    scene.put_endpoints(service, [Endpoint("a1"), Endpoint("b1"), *unready("a2", "b2")])
    scene.settle()
    scene.check(service, [(place, "cluster", {"a1", "b1"}) for place in EVERYWHERE])


def test_published_though_not_ready(scene: Scene) -> None:
    """With publishNotReadyAddresses slices say ready, also of pods that terminate."""
    published = [
        Endpoint("a1", ready=True, serving=False),
        Endpoint("b2", True, True, terminating=True),
    ]
    service = scene.put(scene.service(publishNotReadyAddresses=True), published)
    scene.check(service, [(place, "cluster", {"a1", "b2"}) for place in EVERYWHERE])


@pytest.mark.parametrize("gone", ["no endpoints", "not ready", "serving but not ready", "no slice"])
def test_refused_within_seconds(scene: Scene, gone: str) -> None:
    """All pods of a service are evicted; it is asked from pods, nodes and outside, by TCP and UDP."""
    service = scene.put(scene.service(TCP, UDP, node_ports=True, externalIPs=[]))
    external = [service.external(version) for version in (4, 6)]
    service = scene.put(service.with_spec(externalIPs=external))
    scene.check(service, [("pod1", "cluster", ALL), ("client", "external1", ALL)])
    left = {
        "no endpoints": [],
        "not ready": unready(*ALL),
        "serving but not ready": [Endpoint(n, ready=False, serving=True) for n in sorted(ALL)],
        "no slice": [],
    }
    scene.put_endpoints(service, left[gone])
    if gone == "no slice":
        for version in (4, 6):
            scene.remove(f"slice_default_{service.name}-v{version}")
    scene.settle()
    rows = [(place, "cluster", REFUSED) for place in EVERYWHERE]
    rows += [(place, "external1", REFUSED) for place in (*EVERYWHERE, "client")]
    rows += [("client", node, REFUSED) for node in ("node1", "node2")]
    rows += [("pod1", "node1", REFUSED), ("node2", "node2", REFUSED), ("pod2", "node1", REFUSED)]
    rows += [("node1", "loopback", REFUSED)]
    for port in service.ports:
        scene.check(service, rows, port)
    scene.put_endpoints(service, [Endpoint("b1")])
    scene.settle()
    for port in service.ports:
        scene.check(service, [(place, to, {"b1"}) for place, to, _ in rows], port)


# kube-proxy.md section 6: what the endpoint on node1 is, and who reaches it. The end-to-end tests "fallback to local
# terminating endpoints" have a pod on the endpoint's node, and one on the other.
FALL_BACK: dict[tuple[str, str], list[Row]] = {
    ("internalTrafficPolicy", "Cluster"): [
        ("pod1", "cluster", {"a1"}), ("pod2", "cluster", {"a1"}), ("node2", "cluster", {"a1"}),
        ("stray1", "cluster", {"a1"}), ("stray2", "cluster", {"a1"}),
    ],
    ("internalTrafficPolicy", "Local"): [
        ("pod1", "cluster", {"a1"}), ("pod2", "cluster", SILENT), ("node1", "cluster", {"a1"}),
        ("node2", "cluster", SILENT), ("stray1", "cluster", {"a1"}), ("stray2", "cluster", SILENT),
    ],
    ("externalTrafficPolicy", "Cluster"): [
        ("pod1", "node1", {"a1"}), ("pod1", "node2", {"a1"}), ("pod2", "node1", {"a1"}),
        ("pod2", "node2", {"a1"}), ("client", "node1", {"a1"}), ("client", "node2", {"a1"}),
    ],
    ("externalTrafficPolicy", "Local"): [
        ("pod1", "node1", {"a1"}), ("pod1", "node2", SILENT), ("pod2", "node1", {"a1"}),
        ("pod2", "node2", {"a1"}), ("node1", "node1", {"a1"}), ("node1", "node2", SILENT),
        ("node2", "node1", {"a1"}), ("node2", "node2", {"a1"}), ("client", "node1", {"a1"}),
        ("client", "node2", SILENT),
    ],
}  # fmt: skip


@pytest.mark.parametrize("state", ["ready", "terminating"])
@pytest.mark.parametrize("policy", FALL_BACK, ids="-".join)
def test_policies_and_terminating_endpoints(
    scene: Scene, policy: tuple[str, str], state: str
) -> None:
    endpoints = [Endpoint("a1")] if state == "ready" else ending("a1")
    field, value = policy
    service = scene.put(scene.service(TCP, UDP, node_ports=True, **{field: value}), endpoints)
    for port in service.ports:
        scene.check(service, FALL_BACK[policy], port)


def test_local_and_cluster_fall_back_apart(scene: Scene) -> None:
    """A terminating endpoint of the node serves Local clients though another node has a ready one."""
    local = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    service = scene.service(node_ports=True, **local)
    scene.put(service, [*ending("a1"), Endpoint("a2"), *ending("b2")])
    scene.check(service, [
        ("client", "node1", {"a1"}), ("client", "node2", {"a2"}), ("pod1", "cluster", {"a1"}),
        ("pod2", "cluster", {"a2"}), ("pod1", "node1", {"a2"}), ("node1", "node1", {"a2"}),
    ])  # fmt: skip
    scene.put_service(service.with_spec(internalTrafficPolicy="Cluster"))
    scene.settle()
    scene.check(service, [(place, "cluster", {"a2"}) for place in EVERYWHERE])


def test_terminating_endpoints_without_serving_are_none(scene: Scene) -> None:
    gone = [Endpoint("a1", ready=False, serving=False, terminating=True)]
    service = scene.put(scene.service(node_ports=True), gone)
    scene.check(service, [("pod1", "cluster", REFUSED), ("client", "node2", REFUSED)])


@pytest.mark.parametrize("port", [TCP, UDP], ids=["TCP", "UDP"])
def test_connections_outlive_their_endpoints_readiness(scene: Scene, port: Port) -> None:
    """Endpoints go from ready to terminating to gone: TCP stays with its server; UDP goes on with one that serves."""
    service = scene.put(scene.service(port, node_ports=True), [Endpoint("a1"), *unready("a2")])
    port = service.ports[0]
    places = (
        ("pod1", "cluster"),
        ("pod2", "node2"),
        ("client", "node1"),
        ("client", "node2"),
        ("node2", "cluster"),
    )
    kept = [(place, to, version) for place, to in places for version in (4, 6)]
    for index, (place, to, version) in enumerate(kept):
        (first,) = scene.ask(service, place, to, version, how="keep", name=f"kept{index}")
        assert (first["outcome"], first.get("pod")) == ("ok", "a1")
    for endpoints in ([*ending("a1"), Endpoint("a2")], [Endpoint("a2")]):
        scene.put_endpoints(service, endpoints)
        scene.settle()
        for index, (place, to, version) in enumerate(kept):
            (again,) = scene.ask(service, place, to, version, how="again", name=f"kept{index}")
            expected = {"a1"} if port.protocol == "TCP" else {"a1", "a2"}
            at_socket = place.startswith("node") or (scene.at_sockets and place.startswith("pod"))
            gone = port.protocol == "UDP" and at_socket and len(endpoints) == 1
            if gone and again["outcome"] in {"edestaddrreq", "econnaborted"}:
                continue  # the agent has closed the socket of a server that is gone
            assert again.get("pod") in expected, (place, to, version, again)
        scene.check(service, [(place, to, {"a2"}) for place, to in places])
    for index, (place, *_) in enumerate(kept):
        scene.call(place, "", 0, how="close", name=f"kept{index}")


def test_datagrams_move_to_a_server_that_serves(scene: Scene) -> None:
    """Packet by packet, a client that never stops gets another server once its own is gone, not before."""
    service = scene.put(scene.service(UDP, node_ports=True), [Endpoint("a1")])
    ways = [("client", "node1"), ("client", "node2"), ("stray1", "cluster"), ("stray2", "cluster")]
    if not scene.at_sockets:
        ways += [("pod1", "cluster"), ("pod2", "cluster"), ("pod2", "node1")]
    kept = [
        (*way, version, f"kept{number}{version}")
        for number, way in enumerate(ways)
        for version in (4, 6)
    ]

    def ask_all(how: str) -> set[object]:
        answers = [
            scene.ask(service, place, to, version, how=how, name=name)[0]
            for place, to, version, name in kept
        ]
        return {answer.get("pod", answer["outcome"]) for answer in answers}

    assert ask_all("keep") == {"a1"}
    scene.put_endpoints(service, [*ending("a1"), Endpoint("b2")])
    scene.settle()
    assert ask_all("again") == {"a1"}
    for server in ("b2", "a2", "b1"):
        scene.put_endpoints(service, [Endpoint(server)])
        scene.settle()
        assert ask_all("again") == {server}
    ask_all("close")
