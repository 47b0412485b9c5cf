# SPDX-License-Identifier: Apache-2.0
"""What connections survive: agents that die, segments that nobody asked for, and others who change our BPF objects."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass_lab.box import agents
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import wait_until
from tests.box.scene import Scene
from tests.box.scene_objects import ALL, Endpoint, Port
from tests.box.scene_rows import HERE, REFUSED

pytestmark = pytest.mark.xdist_group("scenes")
TCP = Port(80, 8080)
UDP = Port(80, 8080, "UDP", name="datagrams")
WAYS = (
    ("pod1", "cluster"), ("pod2", "node1"), ("node1", "cluster"), ("stray2", "cluster"), ("client", "node1"),
    ("client", "node2"), ("a1", "cluster"),
)  # fmt: skip


def test_agents_die_and_come_back(scene: Scene) -> None:
    """Connections go on, new ones are served; what changed meanwhile is applied at the start."""
    service = scene.put(scene.service(TCP, UDP, node_ports=True))
    other = scene.put(scene.service(), [Endpoint("a1")])
    kept = [(*way, version, port) for way in WAYS for version in (4, 6) for port in service.ports]

    def ask_all(how: str) -> list[object]:
        answers = []
        for number, (host, to, version, port) in enumerate(kept):
            answers += scene.ask(service, host, to, version, port, how=how, name=f"kept{number}")
        return [answer.get("pod", answer["outcome"]) for answer in answers]

    servers = ask_all("keep")
    assert set(servers) <= ALL
    agents.stop_agents(scene.box.paths, signal.SIGKILL)
    try:
        assert ask_all("again") == servers
        for port in service.ports:
            scene.check(service, [(*way, ALL) for way in WAYS], port)
        scene.put_endpoints(other, [Endpoint("b2")])
    finally:
        agents.start_agents(scene.box.paths, scene.box.topology, scene.box.settings)
    assert ask_all("again") == servers
    scene.check(other, [("pod1", "cluster", {"b2"}), ("node2", "cluster", {"b2"})])
    ask_all("close")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("host", "to"), [("client", "node1"), ("pod1", "cluster"), ("stray1", "cluster")]
)
def test_a_stray_segment_of_the_backend(scene: Scene, host: str, to: str, version: int) -> None:
    """Out of every window, it is translated like the connection's own: nobody resets what he does not know."""
    service = scene.put(scene.service(node_ports=True), [Endpoint("a2")])
    (first,) = scene.ask(service, host, to, version, how="keep", name="kept")
    client, port = (part.strip("[]") for part in str(first["client"]).rsplit(":", 1))
    stray = (scene.address("a2", version), "8080", client, port)
    for _ in range(3):
        scene.run("a2", sys.executable, str(HERE / "stray_segment.py"), *stray)
        (again,) = scene.ask(service, host, to, version, how="again", name="kept")
        assert (again.get("pod"), again["outcome"]) == ("a2", "ok")
    scene.ask(service, host, to, version, how="close", name="kept")


@pytest.fixture(scope="module")
def watchful(scenes: Scene) -> Iterator[Scene]:
    """Agents that look at everything ten times a second."""
    box = scenes.box
    agents.stop_agents(box.paths)
    os.environ["KUBYPASS_CHECK_EVERY"] = "0.1"
    try:
        agents.start_agents(box.paths, box.topology, box.settings)
        yield scenes
    finally:
        del os.environ["KUBYPASS_CHECK_EVERY"]
        agents.stop_agents(box.paths)
        agents.start_agents(box.paths, box.topology, box.settings)


def pins(scene: Scene, directory: str, pattern: str) -> list[Path]:
    """Pins of node1's datapath."""
    node = scene.box.topology.node("node1").name
    found = sorted((scene.box.paths.node_bpffs(node) / "kubypass" / directory).glob(pattern))
    assert found
    return found


def remove_pins(directory: str, pattern: str) -> Callable[[Scene], None]:
    def damage(scene: Scene) -> None:
        for path in pins(scene, directory, pattern):
            path.unlink()

    return damage


def detach_links(pattern: str) -> Callable[[Scene], None]:
    def damage(scene: Scene) -> None:
        for path in pins(scene, "links", pattern):
            scene.run("node1", "bpftool", "link", "detach", "pinned", str(path))

    return damage


def empty(name: str) -> Callable[[Scene], None]:
    """Deletes all entries of a hash, or zeroes all of an array."""

    def damage(scene: Scene) -> None:
        target = scene.map("node1", name)
        for key, value in list(target.items()):
            if name not in ("slots", "backends"):
                target.delete(key)
            elif any(value):
                target.update(key, bytes(len(value)))

    return damage


def confuse_slots(scene: Scene) -> None:
    """All services lead to one backend."""
    target: Map = scene.map("node1", "slots")
    for key, value in list(target.items()):
        if any(value):
            target.update(key, struct.pack("<I", 1))


def no_forwarding(scene: Scene) -> None:
    scene.run("node1", "sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")


def several(*damages: Callable[[Scene], None]) -> Callable[[Scene], None]:
    def damage(scene: Scene) -> None:
        for each in damages:
            each(scene)

    return damage


LINKS = ("eth0-*", "lxc*", "cgroup-*")
DAMAGE: dict[str, Callable[[Scene], None]] = {
    "links' pins removed": several(*(remove_pins("links", pattern) for pattern in LINKS)),
    "links detached": several(*map(detach_links, LINKS)),
    "services deleted": empty("services"),
    "source ranges deleted": empty("source_ranges"),
    "slots zeroed": empty("slots"),
    "backends zeroed": empty("backends"),
    "local addresses deleted": empty("local_addresses"),
    "slots confused": confuse_slots,
    "other pins removed": several(
        remove_pins(layout.LAYOUT_HASH, "*"), remove_pins("programs", "*")
    ),
    "forwarding off": no_forwarding,
}


def wait_for_check(scene: Scene) -> None:
    """Until node1's agent has looked at everything, from its first step to its last."""
    for _ in range(2):
        before = seconds_of_check(scene, "node1")
        assert wait_until(partial(other_seconds, scene, before))


QUIET_S = 3.0
"""The agent takes two seconds at most between looks at the network, and damage in several steps may need as many."""


def settled(scene: Scene, said: Callable[[], str]) -> str:
    """What the agent has said, once it has said no more for QUIET_S."""
    now, since, deadline = said(), time.monotonic(), time.monotonic() + DEADLINE_S
    while time.monotonic() - since < QUIET_S or not now:
        assert time.monotonic() < deadline, f"repaired again and again: {now}"
        wait_for_check(scene)
        if (later := said()) != now:
            now, since = later, time.monotonic()
    return now


def other_seconds(scene: Scene, before: object) -> bool:
    """Whether another look has been taken since."""
    return seconds_of_check(scene, "node1") != before


def seconds_of_check(scene: Scene, node: str) -> object:
    """How long the last look took: another number each time."""
    name = scene.box.topology.node(node).name
    timings = agents.ask(scene.box.paths, name, "/status")["timings"]
    assert isinstance(timings, dict)
    return timings.get("check_s")


@pytest.mark.parametrize("scenes", ["sockets"], indirect=True)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_repaired(watchful: Scene, scene: Scene, damage: str) -> None:
    assert watchful is scene
    log = scene.box.paths.agent_run(scene.box.topology.node("node1").name) / "agent.log"
    service = scene.put(scene.service(TCP, node_ports=True))
    single = scene.put(scene.service(TCP), [Endpoint("a2")])
    nobody = scene.put(scene.service(TCP), [])
    guarded = scene.service(
        TCP, type="LoadBalancer", loadBalancerSourceRanges=["203.0.113.9/32", "2001:db8:cafe::/64"]
    )
    guarded = replace(guarded, ingress=tuple(guarded.external(version) for version in (4, 6)))
    scene.put(guarded)
    wait_for_check(scene)
    before = len(log.read_text())
    DAMAGE[damage](scene)
    said = settled(scene, lambda: log.read_text()[before:])
    assert "repaired" in said or "endpoints changed" in said
    scene.check(service, [(*way, ALL) for way in WAYS])
    scene.check(single, [(host, "cluster", {"a2"}) for host in ("pod1", "node1", "stray1")])
    scene.check(nobody, [(host, "cluster", REFUSED) for host in ("pod1", "node1")])
    scene.check(guarded, [("client", "ingress1", ALL)])
    wait_for_check(scene)
    assert log.read_text()[before:] == said, "repaired again and again"
