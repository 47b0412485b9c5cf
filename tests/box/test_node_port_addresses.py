# SPDX-License-Identifier: Apache-2.0
"""Where NodePorts answer: every address of the node, loopback ones, or those that nodeport-addresses names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubypass_lab.box.process import wait_until
from kubypass_lab.box.wiring import ip_batch
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port, Service
from tests.box.scene_rows import REFUSED

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(80, 8080, "UDP", name="datagrams")
SECOND = {4: "192.168.1.131", 6: "fd00:c0a8:1::131"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}

# setting -> which of node1's addresses answer: primary, second, loopback; by family
ANSWERING = {
    "primary": {4: "primary", 6: "primary"},
    "192.168.1.131/32": {4: "second", 6: "primary second loopback"},
    "fd00:c0a8:1::131/128,127.0.0.0/8": {4: "loopback", 6: "second"},
}


@pytest.fixture(scope="module")
def two_addresses(scenes: Scene) -> Iterator[Scene]:
    """node1 has a second address of each family, younger than the first."""
    node1 = scenes.box.paths.namespace(scenes.box.topology.node("node1").name)
    ip_batch(
        node1,
        [f"address add {SECOND[4]}/24 dev eth0", f"address add {SECOND[6]}/64 dev eth0 nodad"],
    )
    yield scenes
    scenes.restart_agents()
    ip_batch(
        node1,
        [f"address delete {SECOND[4]}/24 dev eth0", f"address delete {SECOND[6]}/64 dev eth0"],
    )


def answering(scene: Scene, service: Service, host: str, version: int) -> set[str]:
    """Which of node1's addresses answer; the others refuse."""
    addresses = {"primary": scene.address("node1", version), "second": SECOND[version]}
    if host == "node1":
        addresses["loopback"] = LOOPBACK[version]
    found = set()
    for port in service.ports:
        for name, address in addresses.items():
            (answer,) = scene.call(host, address, port.node_port, port.protocol)
            assert answer["outcome"] in {"ok", REFUSED}
            if answer["outcome"] == "ok":
                found.add(f"{name}/{port.protocol}")
    return found


def check_addresses(scene: Scene, expected: dict[int, str]) -> None:
    service = scene.put(scene.service(TCP, UDP, node_ports=True), [Endpoint("a1"), Endpoint("a2")])
    for version in (4, 6):
        for host in ("client", "pod1", "pod2", "node1"):
            words = set(expected[version].split()) - ({"loopback"} if host != "node1" else set())
            wanted = {f"{word}/{port.protocol}" for word in words for port in service.ports}
            assert answering(scene, service, host, version) == wanted, (host, version)


def test_every_address(two_addresses: Scene, scene: Scene) -> None:
    """A new address answers as soon as it is there."""
    assert two_addresses is scene
    every = "primary second loopback"
    assert wait_until(lambda: answering(scene, *probe(scene)) == {"primary/TCP", "second/TCP"})
    check_addresses(scene, {4: every, 6: every})


def probe(scene: Scene) -> tuple[Service, str, int]:
    return scene.put(scene.service(node_ports=True)), "client", 6


@pytest.mark.parametrize("setting", ANSWERING)
def test_chosen_addresses(two_addresses: Scene, scene: Scene, setting: str) -> None:
    assert two_addresses is scene
    scene.restart_agents(f'nodeport-addresses: "{setting}"')
    check_addresses(scene, ANSWERING[setting])


def test_loopback_can_be_left_out(two_addresses: Scene, scene: Scene) -> None:
    """Under eTP Local the node itself gets all endpoints, by whichever of its addresses."""
    assert two_addresses is scene
    scene.restart_agents('localhost-nodeports: "false"')
    service = scene.put(scene.service(node_ports=True, externalTrafficPolicy="Local"))
    scene.check(service, [("node1", "loopback", REFUSED), ("node1", "node1", ALL)])


def test_loopback_of_a_pod_is_its_own(scene: Scene) -> None:
    service = scene.put(scene.service(TCP, UDP, node_ports=True))
    for port in service.ports:
        scene.check(service, [("pod1", "loopback", REFUSED)], port)
