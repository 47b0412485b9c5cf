# SPDX-License-Identifier: Apache-2.0
"""Questions without end from a pod and from outside, while the settings of the agents change."""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kubypass_lab.box import agents
from kubypass_lab.box.patience import DEADLINE_S
from kubypass_lab.box.process import Process, is_alive, stop, wait_until
from kubypass_lab.box.steps_outside import PORT as OUTSIDE_PORT
from tests.box.conftest import HERE
from tests.box.pings import OUTSIDE
from tests.box.scene import Scene
from tests.box.scene_objects import Port


def plan(scene: Scene, host: str) -> list[dict[str, str]]:
    """Streams to both nodes' frontends, and from pods to the outside."""
    found = []
    for protocol in ("TCP", "UDP"):
        service = scene.put(scene.service(Port(80, 8080, protocol), node_ports=True))
        for version in (4, 6):
            targets = [
                scene.target(service, to, version, service.ports[0]) for to in ("cluster", "node1")
            ]
            if host.startswith("pod"):
                targets.append((OUTSIDE[version].strip("[]"), OUTSIDE_PORT))
            found += [
                {"kind": kind, "protocol": protocol, "address": address, "port": str(port)}
                for address, port in targets
                for kind in ("kept", "fresh" if protocol == "UDP" else "new")
            ]
    return found


@contextmanager
def streams(scene: Scene, directory: Path) -> Iterator[dict[str, Path]]:
    """Asks without end from a pod and from outside."""
    logs, started = {}, list[Process]()
    try:
        for host in ("pod1", "client"):
            path, logs[host] = directory / f"{host}.json", directory / f"{host}.log"
            path.write_text(json.dumps(plan(scene, host)))
            command = [sys.executable, str(HERE / "streamer.py"), str(path), str(logs[host])]
            started.append(scene.spawn(host, command, directory / f"{host}.errors"))
        assert wait_until(
            lambda: all(log.is_file() and answers(log) > 200 for log in logs.values())
        )
        yield logs
        assert all(map(is_alive, started))
    finally:
        for process in started:
            stop(process, signal.SIGTERM, DEADLINE_S)


def answers(log: Path) -> int:
    return len(log.read_text().splitlines())


def restart(scene: Scene, settings: str) -> None:
    """The agents begin again with other settings, which is how a file's settings change."""
    box = scene.box
    box.settings.write_text(settings)
    agents.stop_agents(box.paths)
    agents.start_agents(box.paths, box.topology, box.settings)


def outcomes(logs: Mapping[str, Path]) -> Counter[tuple[str, str]]:
    """How many questions of each host ended how."""
    return Counter(
        (host, json.loads(line)[3].split()[0])
        for host, log in logs.items()
        for line in log.read_text().splitlines()
    )
