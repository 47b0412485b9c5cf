# SPDX-License-Identifier: Apache-2.0
"""Where NodePorts answer: every address of the node, loopback ones, or those that nodeport-addresses names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kubypass.box import agents
from kubypass.box.wiring import ip_batch
from tests.box.scene import ALL, REFUSED, Endpoint, Port, Scene, Service

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(80, 8080, "UDP", name="datagrams")
SECOND = {4: "192.168.1.131", 6: "fd00:c0a8:1::131"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

# setting -> which of node1's addresses answer: primary, second, loopback; by family
ANSWERING = {
    "": {4: "primary second loopback", 6: "primary second loopback"},
    "primary": {4: "primary", 6: "primary"},
    "192.168.1.131/32": {4: "second", 6: "primary second loopback"},
    "fd00:c0a8:1::131/128,127.0.0.0/8": {4: "loopback", 6: "second"},
    "192.168.1.0/24,::/0": {4: "primary second", 6: "primary second loopback"},
}


@pytest.fixture
def two_addresses(scene: Scene) -> Iterator[Scene]:
    """node1 has a second address of each family."""
    node1 = scene.box.paths.namespace(scene.box.topology.node("node1").name)
    ip_batch(
        node1,
        [f"address add {SECOND[4]}/24 dev eth0", f"address add {SECOND[6]}/64 dev eth0 nodad"],
    )
    yield scene
    ip_batch(
        node1,
        [f"address delete {SECOND[4]}/24 dev eth0", f"address delete {SECOND[6]}/64 dev eth0"],
    )


@contextmanager
def settings(scene: Scene, line: str) -> Iterator[None]:
    """Agents with one more setting, for the length of a block."""
    box = scene.box
    changed = box.settings.with_name("changed.yaml")
    changed.write_text(f"{box.settings.read_text()}\n{line}\n")
    for path in (changed, box.settings):
        agents.stop_agents(box.paths)
        agents.start_agents(box.paths, box.topology, path)
        if path == changed:
            yield


def answering(scene: Scene, service: Service, place: str, version: int) -> set[str]:
    """Which of node1's addresses answer; the others refuse."""
    addresses = {"primary": scene.address("node1", version), "second": SECOND[version]}
    if place == "node1":
        addresses["loopback"] = LOOPBACK[version]
    found = set()
    for port in service.ports:
        for name, address in addresses.items():
            (answer,) = scene.call(place, address, port.node_port, port.protocol)
            assert answer["outcome"] in {"ok", REFUSED}
            if answer["outcome"] == "ok":
                found.add(f"{name}/{port.protocol}")
    return found


@pytest.mark.parametrize("setting", ANSWERING)
def test_addresses(two_addresses: Scene, setting: str) -> None:
    scene = two_addresses
    service = scene.put(scene.service(TCP, UDP, node_ports=True), [Endpoint("a1"), Endpoint("a2")])
    with settings(scene, f'nodeport-addresses: "{setting}"'):
        for version in (4, 6):
            for place in ("client", "pod1", "pod2", "node1"):
                words = set(ANSWERING[setting][version].split())
                words -= {"loopback"} if place != "node1" else set()
                expected = {f"{word}/{port.protocol}" for word in words for port in service.ports}
                assert answering(scene, service, place, version) == expected, (place, version)


def test_loopback_with_local_policy(scene: Scene) -> None:
    """The node itself gets all endpoints; so it does after localhost-nodeports is switched off, elsewhere."""
    service = scene.put(scene.service(node_ports=True, externalTrafficPolicy="Local"))
    rows = [("node1", "loopback", ALL), ("node1", "node1", ALL), ("node2", "loopback", ALL)]
    scene.check(service, rows)
    with settings(scene, 'localhost-nodeports: "false"'):
        scene.check(service, [("node1", "loopback", REFUSED), ("node1", "node1", ALL)])


def test_loopback_of_a_pod_is_its_own(scene: Scene) -> None:
    service = scene.put(scene.service(TCP, UDP, node_ports=True))
    for port in service.ports:
        scene.check(service, [("pod1", "loopback", REFUSED)], port)
