# SPDX-License-Identifier: Apache-2.0
"""One box for all tests: two nodes, a client, nginx and a responder, both families."""

from __future__ import annotations

import json
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubypass_lab.box import agents
from kubypass_lab.box.apply import apply_files
from kubypass_lab.box.box import Box, down, up
from kubypass_lab.box.enter import find_target, run_in
from kubypass_lab.box.files import read_json
from kubypass_lab.box.paths import RUN
from kubypass_lab.box.patience import ANSWER_S, SHORT_S
from kubypass_lab.box.process import wait_until
from kubypass_lab.box.record import PodRecord, read_pods
from tests.box import firewall
from tests.box.scene import Scene

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
GUIDE = REPOSITORY / "examples" / "guide"
DUAL_STACK = REPOSITORY / "examples" / "families" / "dual-stack.yaml"
OF_TESTS = re.compile(r"pytest(\d+)[a-z]{1,3}")
"""Boxes' names, with the process that made it."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a box needs root")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(needs_root)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A box with Services, and what tests ask of it."""

    box: Box

    def pods(self, app: str) -> list[PodRecord]:
        """Pods with the label `app` or `run`, oldest first."""
        return [pod for pod in read_pods(self.box.paths) if app in pod.labels.values()]

    def apply(self, text: str) -> None:
        """Apply some YAML."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(textwrap.dedent(text))
            file.flush()
            apply_files(self.box, [Path(file.name)], print)

    def status(self, node: str) -> dict[str, Any]:
        """What the agent of a node says of itself."""
        return agents.ask(self.box.paths, self.box.topology.node(node).name, "/status")

    def problems(self, subject: str, node: str = "node1") -> list[str]:
        """What is wrong with this object, as the agent of a node has it."""
        found = self.status(node)["problems"]
        return [each["message"] for each in found if each["subject"] == subject]

    def outcome(self, host: str, address: str, port: int, patience_s: float = ANSWER_S) -> str:
        """The pod that answers one HTTP request, or why none does: refused or silent."""
        url = f"http://{address}:{port}/"
        script = f"curl -sg -m {patience_s:g} {url}; echo =$?"
        answer, _, code = self.run(host, "sh", "-c", script).rpartition("=")
        words = {"7": "refused", "28": "silent"}
        return (
            str(json.loads(answer)["pod"]) if code.strip() == "0" else words.get(code.strip(), code)
        )

    def becomes(self, host: str, address: str, port: int, wanted: str) -> None:
        """Wait until a request has this outcome."""
        seen: set[str] = set()

        def settled() -> bool:
            seen.add(self.outcome(host, address, port, 2 * SHORT_S))
            return wanted in seen

        assert wait_until(settled), f"{host} {address}:{port}: {seen}, not {wanted}"

    def spec(self, service: str) -> dict[str, Any]:
        """A Service's stored spec."""
        stored = read_json(self.box.paths.manifests / f"service_default_{service}.json")
        assert stored is not None
        spec = stored["spec"]
        assert isinstance(spec, dict)
        return spec

    def run(self, host: str, *argv: str) -> str:
        """Standard output of a command on a host; the test fails if the command does."""
        answer = run_in(find_target(self.box, self.full_name(host)), argv)
        assert answer.returncode == 0, f"{host}: {' '.join(argv)}: {answer.stderr}"
        return answer.stdout

    def full_name(self, host: str) -> str:
        """`pod1` and `pod2` are the visitors on node1 and node2."""
        if host in ("pod1", "pod2"):
            node = self.box.topology.node(f"node{host[-1]}").name
            return next(f"pod/{pod.name}" for pod in self.pods("visitor") if pod.node == node)
        return host

    def host(self, version: int, what: str) -> str:
        """An address of loopback, node1, nginx1 (the pod there), or a Service's ClusterIP."""
        if what == "loopback":
            return {4: "127.0.0.1", 6: "[::1]"}[version]
        if what in ("node1", "node2"):
            address = str(self.box.topology.node(what).address(version))
        elif what in ("nginx1", "nginx2"):
            node = self.box.topology.node(f"node{what[-1]}").name
            pod = next(pod for pod in self.pods("my-nginx") if pod.node == node)
            address = next(text for text in pod.addresses if (":" in text) == (version == 6))
        else:
            ips = [str(text) for text in self.spec(what)["clusterIPs"]]
            address = next(text for text in ips if (":" in text) == (version == 6))
        return f"[{address}]" if ":" in address else address

    def node_port(self, service: str, protocol: str = "TCP") -> int:
        """A Service's node port."""
        for port in self.spec(service)["ports"]:
            assert isinstance(port, dict)
            if port["protocol"] == protocol:
                return int(port["nodePort"])
        raise AssertionError(f"{service} has no {protocol} port")

    def ask(self, host: str, protocol: str, address: str, port: int) -> dict[str, str]:
        """What a responder answers: its pod, node, and the addresses it saw."""
        if protocol == "TCP":
            return dict(
                json.loads(
                    self.run(
                        host, "curl", "-sSg", "-m", f"{ANSWER_S:.0f}", f"http://{address}:{port}/"
                    )
                )
            )
        script = (HERE / "ask_udp.py").as_posix()
        python = (REPOSITORY / ".venv" / "bin" / "python").as_posix()
        return dict(json.loads(self.run(host, python, script, address.strip("[]"), str(port))))


def box_name(kind: str) -> str:
    """Another one in each process; `kind` tells its boxes apart, in three letters at most.

    First go those that processes left which were killed, whatever their checkout.
    """
    for left in RUN.glob("pytest*"):
        if (match := OF_TESTS.fullmatch(left.name)) and not Path(f"/proc/{match[1]}").exists():
            down(left.name, lambda _: None)
    return f"pytest{os.getpid()}{kind}"


FIREWALL = "KUBYPASS_FIREWALL" in os.environ
"""Whether the nodes of every box judge what they forward, by the states of connections."""
EVERYWHERE = [
    line.strip() for line in os.environ.get("KUBYPASS_SETTINGS", "").split(";") if line.strip()
]
"""Settings of every box, such as `enable-host-legacy-routing: "true"; bpf-lb-algorithm: maglev`."""


def with_everywhere(settings: Path) -> Path:
    """The settings, with those of the whole run; a file's own come first."""
    text = settings.read_text()
    more = [line for line in EVERYWHERE if f"{line.partition(':')[0]}:" not in text]
    if not more:
        return settings
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write("\n".join((text, *more, "")))
    return Path(file.name)


def guide_settings(directory: Path, settings: str) -> Path:
    """The guide's settings with these lines, in place of its own for the same keys."""
    keys = {line.partition(":")[0] for line in settings.splitlines()}
    own = (GUIDE / "cilium-config.yaml").read_text().splitlines()
    path = directory / "cilium-config.yaml"
    lines = [line for line in own if line.partition(":")[0] not in keys]
    path.write_text("\n".join((*lines, settings, "")))
    return path


@contextmanager
def own_box(kind: str, settings: Path, *objects: Path) -> Iterator[Box]:
    """A dual-stack box that is gone after the block; `kind` as in box_name."""
    name = box_name(kind)
    try:
        box = up(name, DUAL_STACK, with_everywhere(settings), print)
        if FIREWALL:
            firewall.set_up(box, firewall.ANY_NEW)
        apply_files(box, [*objects], print)
        yield box
    finally:
        down(name, lambda _: None)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    settings = GUIDE / "cilium-config.yaml"
    with own_box("all", settings, HERE / "cluster.yaml") as box:
        yield Cluster(box)


@pytest.fixture(scope="session", params=["sockets", "packets"])
def scenes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Pods' connections are translated when they are opened, or packet by packet."""
    at_sockets = request.param == "sockets"
    changes = f'bpf-lb-sock: "{str(at_sockets).lower()}"\nbpf-lb-map-max: "4096"'
    settings = guide_settings(tmp_path_factory.mktemp("scenes"), changes)
    with (
        own_box("scn", settings, HERE / "scenes.yaml") as box,
        Scene(box, at_sockets=at_sockets) as scene,
    ):
        scene.route()
        yield scene


@pytest.fixture
def scene(scenes: Scene) -> Iterator[Scene]:
    """The box of the scenarios; what a test puts there goes with it."""
    yield scenes
    scenes.clear()
