# SPDX-License-Identifier: Apache-2.0
"""Updates under traffic: endpoints flip, services change, come and go, agents die. Every answer is checked.

`make soak` runs it for minutes (SOAK_SECONDS); SOAK_SEED repeats the order of changes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.process import Process, is_alive, stop, wait_until
from tests.box.scene import Scene
from tests.box.scene_objects import Endpoint, Port, Service
from tests.box.scene_rows import HERE

pytestmark = pytest.mark.xdist_group("scenes")
SECONDS = float(os.environ.get("SOAK_SECONDS", "5"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.randrange(1, 1 << 30)
PORTS = (Port(80, 8080), Port(53, 5353, "UDP", name="dns"))
EXTRA = Port(81, 8081, name="extra")
CLOSED = {"edestaddrreq", "econnaborted"}
"""What a connected UDP socket says once that its server is gone: the agent closes it, and its owner dials again."""
PLACES = ("client", "node1", "pod1", "pod2", "stray2")


@dataclass
class Served:
    """A service under traffic, its servers, and when which of them were ready: from the write until it was applied."""

    service: Service
    servers: tuple[str, ...]
    history: list[tuple[float, float, list[Endpoint]]] = field(default_factory=list)

    def may_answer(self, begin_s: float, end_s: float, protocol: str) -> set[str]:
        """Servers that a new socket may get at some moment of an interval.

        A datagram from a port that was used before may belong to that flow, which stays while its server serves.
        """
        found: set[str] = set()
        for (written_s, _, endpoints), following in zip_longest(self.history, self.history[1:]):
            until_s = following[1] if following else end_s
            if written_s <= end_s and begin_s <= until_s:
                kept = [
                    each for each in endpoints if each.ready or (protocol == "UDP" and each.serving)
                ]
                found |= {each.server for each in kept}
        return found


class Soak:
    """The services, the changes, and what the streams have seen."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.random = random.Random(SEED)
        flips = scene.service(*PORTS, node_ports=True)
        edited = scene.service(*PORTS, node_ports=True)
        edited = edited.with_spec(externalIPs=[edited.external(version) for version in (4, 6)])
        self.flips, self.edited = Served(flips, ("a1", "a2")), Served(edited, ("b1", "b2"))
        self.others: list[Service] = []
        for served in (self.flips, self.edited):
            scene.put_service(served.service)
            self.ready(served, [Endpoint(name) for name in served.servers])
        self.timeline: list[tuple[float, float, str]] = []
        """Changes: begin, end, name."""

    def ready(self, served: Served, endpoints: list[Endpoint]) -> None:
        written_s = time.monotonic()
        self.scene.put_endpoints(served.service, endpoints)
        served.history.append((written_s, float("inf"), endpoints))
        self.scene.settle()
        served.history[-1] = (written_s, time.monotonic(), endpoints)

    def flip(self) -> None:
        """Some of the servers are ready, the others in any other state."""
        servers = self.flips.servers
        ready = self.random.sample(servers, self.random.randint(1, len(servers)))
        left = [name for name in servers if name not in ready and self.random.random() < 0.7]
        others = [
            Endpoint(n, False, self.random.random() < 0.7, self.random.random() < 0.7) for n in left
        ]
        self.ready(self.flips, [*map(Endpoint, ready), *others])

    def edit(self) -> None:
        """Policies, affinity, type, ports: any mixture, and the service stays reachable in all of them."""
        choose = self.random.choice
        affinity = choose(["None", "ClientIP"])
        spec = {
            "type": choose(["NodePort", "LoadBalancer"]),
            "externalTrafficPolicy": choose(["Cluster", "Local"]),
            "internalTrafficPolicy": choose(["Cluster", "Local"]),
            "sessionAffinity": affinity,
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": choose([1, 60])}},
            "loadBalancerSourceRanges": choose([[], ["192.0.2.0/24"]]),
        }
        if affinity == "None":
            del spec["sessionAffinityConfig"]
        service = self.edited.service
        ports = (*service.ports[:2], *choose([(), (EXTRA,)]))
        ingress = choose([(), ("192.0.2.77", "2001:db8:77::1")])
        self.scene.put_service(replace(service.with_spec(**spec), ports=ports, ingress=ingress))
        self.scene.settle()

    def churn(self) -> None:
        """Other services come and go: their identifiers and slots are used again."""
        for service in self.others:
            self.scene.remove(f"service_default_{service.name}")
            for version in (4, 6):
                self.scene.remove(f"slice_default_{service.name}-v{version}")
        self.others = self.others or [self.scene.service(EXTRA) for _ in range(12)]
        for service in self.others:
            self.scene.put_service(service)
            self.scene.put_endpoints(
                service, map(Endpoint, self.random.sample(["a1", "b1", "a2", "b2"], 3))
            )
        self.scene.settle()

    def kill(self) -> None:
        """Agents die, something changes, and they come back."""
        box = self.scene.box
        agents.stop_agents(box.paths, self.random.choice([signal.SIGKILL, signal.SIGTERM]))
        written_s = time.monotonic()
        servers = self.flips.servers
        ready = [*map(Endpoint, self.random.sample(servers, self.random.randint(1, len(servers))))]
        self.scene.put_endpoints(self.flips.service, ready)
        self.flips.history.append((written_s, float("inf"), ready))
        agents.start_agents(box.paths, box.topology, box.settings)
        self.scene.settle()
        self.flips.history[-1] = (written_s, time.monotonic(), ready)

    def change(self) -> None:
        changes = [self.flip] * 12 + [self.edit] * 12 + [self.churn] * 4 + [self.kill]
        change = self.random.choice(changes)
        begin_s = time.monotonic()
        change()
        self.timeline.append((begin_s, time.monotonic(), change.__name__))

    def plan(self, place: str) -> list[dict[str, object]]:
        """Streams of one place: each frontend that it can use, each protocol, new sockets and kept ones."""
        ways = (
            ("node1", "node2", "external1")
            if place == "client"
            else ("cluster", "node1", "node2", "external1")
        )
        found: list[dict[str, object]] = []
        for served in (self.flips, self.edited):
            for to in ways:
                if to == "external1" and served is self.flips:
                    continue
                if place == "stray2" and to == "node2":
                    continue  # over loopback, where no hook is
                for version in (4, 6):
                    for port in PORTS:
                        number = PORTS.index(port)
                        address, target = self.scene.target(
                            served.service, to, version, served.service.ports[number]
                        )
                        stream = {
                            "protocol": port.protocol,
                            "address": address,
                            "port": target,
                            "to": to,
                        }
                        stream["service"] = "flips" if served is self.flips else "edited"
                        found += [{**stream, "kind": kind} for kind in ("new", "kept")]
        return found

    def failures(
        self, plans: dict[str, list[dict[str, object]]], logs: dict[str, Path]
    ) -> Iterator[str]:
        """Answers that are wrong; says so where a place has none at all."""
        for place, log in logs.items():
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            if not lines:
                yield f"{place} has asked nothing"
            for begin_s, end_s, index, outcome in lines:
                stream = plans[place][index]
                served = self.flips if stream["service"] == "flips" else self.edited
                word, _, pod = str(outcome).partition(" ")
                name = self.scene.name_of(pod)
                allowed = set(served.servers)
                if stream["kind"] == "new":
                    allowed = served.may_answer(begin_s, end_s, str(stream["protocol"]))
                if served is self.flips and stream["protocol"] == "UDP" and word in CLOSED:
                    continue
                if word != "ok" or name not in allowed:
                    what = " ".join(
                        str(stream[key]) for key in ("kind", "protocol", "service", "to")
                    )
                    during = [
                        name for a, b, name in self.timeline if a <= begin_s and begin_s - 0.05 <= b
                    ]
                    yield (
                        f"{begin_s:.3f}..{end_s:.3f} {place} -> {what} {stream['address']}: {word} {name}, "
                        f"allowed {sorted(allowed)}, during {during}"
                    )


@contextmanager
def streams(
    soak: Soak, directory: Path
) -> Iterator[tuple[dict[str, list[dict[str, object]]], dict[str, Path]]]:
    plans, logs = {}, {}
    started: list[Process] = []
    try:
        for place in PLACES:
            plans[place], logs[place] = soak.plan(place), directory / f"{place}.log"
            path = directory / f"{place}.json"
            path.write_text(json.dumps(plans[place]))
            command = [sys.executable, str(HERE / "streamer.py"), str(path), str(logs[place])]
            started.append(soak.scene.spawn(place, command, directory / f"{place}.errors"))
        yield plans, logs
        assert all(map(is_alive, started))
    finally:
        for process in started:
            stop(process, signal.SIGTERM, 5)


@pytest.fixture
def checking(scenes: Scene) -> Iterator[None]:
    """Agents that look at everything every second: there must be nothing to repair."""
    box = scenes.box
    os.environ["KUBYPASS_CHECK_EVERY"] = "1"
    agents.stop_agents(box.paths)
    agents.start_agents(box.paths, box.topology, box.settings)
    yield
    del os.environ["KUBYPASS_CHECK_EVERY"]


def test_soak(scene: Scene, checking: None, tmp_path: Path) -> None:
    del checking
    print(f"SOAK_SEED={SEED}")
    soak = Soak(scene)
    agent_logs = [scene.box.paths.agent_run(node.name) / "agent.log" for node in scene.box.nodes]
    before = [len(log.read_text()) for log in agent_logs]
    with streams(soak, tmp_path) as (plans, logs):
        assert wait_until(
            lambda: all(log.is_file() and log.stat().st_size for log in logs.values())
        )
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            soak.change()
    failures = list(soak.failures(plans, logs))
    answers = sum(len(log.read_text().splitlines()) for log in logs.values())
    print(f"{len(soak.timeline)} changes, {answers} answers, {len(failures)} wrong")
    assert not failures, "\n".join(failures[:40])
    for log, size in zip(agent_logs, before, strict=True):
        said = log.read_text()[size:]
        assert "repaired" not in said
        assert "Traceback" not in said
