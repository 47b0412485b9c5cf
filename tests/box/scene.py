# SPDX-License-Identifier: Apache-2.0
"""A box where Services and EndpointSlices are written by hand, and questions are asked from everywhere in it.

Servers are `a1` and `b1` on node1, `a2` and `b2` on node2. Places to ask from: these, `pod1` and `pod2`, `node1` and
`node2`, `stray1` and `stray2` (processes of a node whose cgroup has no socket hooks), `client` (outside).
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass_lab.box import agents
from kubypass_lab.box.box import Box
from kubypass_lab.box.enter import Target, command_in, find_target, run_in
from kubypass_lab.box.files import write_json
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.process import Process, spawn, wait_until
from kubypass_lab.box.record import PodRecord, read_pods
from kubypass_lab.box.wiring import ip_batch
from tests.box.scene_objects import (
    EXTERNAL,
    READY,
    Endpoint,
    Json,
    Port,
    Service,
    service_manifest,
    slice_manifest,
)
from tests.box.scene_rows import AskedRow, Asker, Row, outcome, raise_error

_SENTINEL = "10.233.63.1"


class Scene:
    """The box, its servers and its askers."""

    def __init__(self, box: Box, *, at_sockets: bool) -> None:
        self.box = box
        self.at_sockets = at_sockets
        """Whether pods' sockets are translated when they dial."""
        self._askers: dict[str, Asker] = {}
        self._number = itertools.count(1)
        self._sentinel = 0
        servers = [pod for pod in read_pods(box.paths) if pod.labels["app"] == "server"]
        visitors = [pod for pod in read_pods(box.paths) if pod.labels["app"] == "visitor"]
        self.pods: dict[str, PodRecord] = {}
        for number in (1, 2):
            node = box.topology.node(f"node{number}").name
            for letter, pod in zip("ab", (p for p in servers if p.node == node), strict=True):
                self.pods[f"{letter}{number}"] = pod
            self.pods[f"pod{number}"] = next(pod for pod in visitors if pod.node == node)
        self._names = {pod.name: name for name, pod in self.pods.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for asker in self._askers.values():
            asker.end()

    def service(self, *ports: Port, node_ports: bool = False, **spec: Any) -> Service:
        """A new Service, not yet put in place; NodePorts are numbered on their own."""
        number = next(self._number)
        ports = ports or (Port(80, 8080),)
        if node_ports:
            spec.setdefault("type", "NodePort")
            first = 31000 + 8 * number
            ports = tuple(replace(p, node_port=first + i) for i, p in enumerate(ports))
        return Service(f"scene{number}", number, ports, dict(spec))

    def put(self, service: Service, endpoints: Iterable[Endpoint] = READY) -> Service:
        """Writes a Service and one slice a family; returns once both agents serve it."""
        self.put_service(service)
        self.put_endpoints(service, endpoints)
        self.settle()
        return service

    def put_service(self, service: Service) -> None:
        """Writes a Service."""
        self.write(f"service_default_{service.name}", service_manifest(service))

    def put_endpoints(
        self,
        service: Service,
        endpoints: Iterable[Endpoint],
        ports: Iterable[Port] | None = None,
        slice_name: str = "",
    ) -> None:
        """One slice a family; another `slice_name` is another slice beside it."""
        endpoints = tuple(endpoints)
        ports = tuple(service.ports if ports is None else ports)
        for version in (4, 6):
            manifest = slice_manifest(service, version, slice_name, ports)
            manifest["endpoints"] = [self._describe(each, version) for each in endpoints]
            self.write(f"slice_default_{service.name}{slice_name}-v{version}", manifest)

    def write(self, name: str, manifest: Json) -> None:
        """What the agents see, as it is."""
        write_json(self.box.paths.manifests / f"{name}.json", manifest)

    def remove(self, name: str) -> None:
        """The inverse of `write`."""
        (self.box.paths.manifests / f"{name}.json").unlink()

    def _describe(self, endpoint: Endpoint, version: int) -> Json:
        names = ("ready", "serving", "terminating")
        given = {name: getattr(endpoint, name) for name in names}
        node = self.node_of(endpoint.server)
        return {
            "addresses": [self.address(endpoint.server, version)],
            "conditions": {name: value for name, value in given.items() if value is not None},
            "nodeName": self.box.topology.node(node).name,
        }

    @staticmethod
    def node_of(host: str) -> str:
        """`node1` or `node2`."""
        return f"node{host[-1]}"

    def address(self, host: str, version: int) -> str:
        """The address of a server, a visitor or a node."""
        if host.startswith("node"):
            return str(self.box.topology.node(host).address(version))
        addresses = self.pods[host].addresses
        return next(text for text in addresses if (":" in text) == (version == 6))

    def settle(self) -> None:
        """Returns once both agents have applied all that was written before."""
        before, self._sentinel = self._sentinel, 1 + self._sentinel % 60000
        self.write("service_default_sentinel", {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "default", "name": "sentinel"},
            "spec": {"type": "ClusterIP", "clusterIP": _SENTINEL, "ports": [{"port": self._sentinel}]},
        })  # fmt: skip

        def applied() -> bool:
            return all(
                self._has_frontend(node.name, self._sentinel)
                and not self._has_frontend(node.name, before)
                for node in self.box.nodes
            )

        assert wait_until(applied), "the agents do not follow"

    def _has_frontend(self, node: str, port: int) -> bool:
        key = layout.TransportAddress(parse_address(_SENTINEL), port, Protocol.TCP).pack()
        return bool(port) and self.map(node, "services").lookup(key) is not None

    def map(self, node: str, name: str) -> Map:
        """A pinned map of a node's datapath."""
        bpffs = self.box.paths.node_bpffs(self.box.topology.node(node).name)
        return Map.open_pinned(str(bpffs / "kubypass" / layout.LAYOUT_HASH / name))

    def asker(self, host: str) -> Asker:
        """The process that dials from a host."""
        if host not in self._askers:
            self._askers[host] = Asker(self.command(host))
        return self._askers[host]

    def command(self, host: str) -> list[str]:
        """The words before a command that runs on a host."""
        if host.startswith("stray"):
            node = self.box.topology.node(f"node{host[-1]}").name
            return ["nsenter", f"--net=/run/netns/{self.box.paths.namespace(node)}", "--"]
        return command_in(self._target(host), [])

    def _target(self, host: str) -> Target:
        return find_target(self.box, f"pod/{self.pods[host].name}" if host in self.pods else host)

    def spawn(self, host: str, command: list[str], log: Path) -> Process:
        """A process on a host that is not a pod's or a node's own child."""
        node = self.box.topology.node(self.node_of(host)).name if host != "client" else ""
        if host.startswith("stray"):
            # The cgroup beside the nodes' ones: no hooks of ours above it.
            cgroup, namespace = self.box.paths.host_cgroup("client"), self.box.paths.namespace(node)
            return spawn(command, cgroup=cgroup, namespace=namespace, log=log, env={})
        found = self._target(host)
        return spawn(
            command, cgroup=found.cgroup, namespace=found.namespace, log=log, env=found.env
        )

    def name_of(self, pod: str) -> str:
        """What a pod is called here."""
        return self._names.get(pod, pod)

    def run(self, host: str, *argv: str) -> str:
        """Standard output of a command on a host, however it ends."""
        if not host.startswith("stray"):
            return run_in(self._target(host), argv).stdout
        command = [*self.command(host), *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def call(
        self, host: str, address: str, port: int, protocol: str = "TCP", count: int = 1, **more: Any
    ) -> list[Json]:
        """`count` calls at once; the servers in the answers have the names that they have here."""
        call: Json = {"how": "ask", "protocol": protocol, "address": address, "port": port, **more}
        return self._call(host, [call] * count)

    def _call(self, host: str, calls: list[Json]) -> list[Json]:
        answers = self.asker(host).call(calls)
        for answer in answers:
            if "pod" in answer:
                answer["pod"] = self._names.get(str(answer["pod"]), answer["pod"])
        return answers

    def target(self, service: Service, to: str, version: int, port: Port) -> tuple[str, int]:
        """Where `cluster`, `node1`, `loopback`, `external1` or `ingress1` is."""
        if to == "cluster":
            return service.address(version), port.number
        if to.startswith(("external", "ingress")):
            return service.external(version, f"node{to[-1]}"), port.number
        loopback = {4: "127.0.0.1", 6: "::1"}
        address = loopback[version] if to == "loopback" else self.address(to, version)
        return address, port.node_port

    def ask(
        self,
        service: Service,
        host: str,
        to: str,
        version: int,
        port: Port | None = None,
        count: int = 1,
        **more: Any,
    ) -> list[Json]:
        """Asks a frontend of a Service, its first port where none is told."""
        port = port or service.ports[0]
        address, number = self.target(service, to, version, port)
        return self.call(host, address, number, port.protocol, count, **more)

    def check(self, service: Service, rows: Iterable[Row], port: Port | None = None) -> None:
        """Every row, in both families, all at once; every row that is wrong is told.

        Where servers are expected, asks until each has answered, or often enough to be sure that one never does.
        """
        asked = [AskedRow(version, *row) for row in rows for version in (4, 6)]
        pending = asked
        for _ in range(16):
            hosts = sorted({each.host for each in pending})
            with ThreadPoolExecutor(len(hosts)) as pool:
                for host in hosts:
                    mine = [each for each in pending if each.host == host]
                    pool.submit(self._ask_rows, service, mine, port).add_done_callback(raise_error)
            pending = [each for each in pending if each.is_short]
            if not pending:
                break
        wrong = [str(each) for each in asked if each.found != each.expected]
        assert not wrong, "\n".join(wrong)

    def _ask_rows(self, service: Service, rows: list[AskedRow], port: Port | None) -> None:
        """Rows that ask from one host."""
        port = port or service.ports[0]
        calls: list[Json] = []
        for row in rows:
            address, number = self.target(service, row.to, row.version, port)
            calls += row.calls(address, number, port.protocol)
        answers = iter(self._call(rows[0].host, calls))
        for row in rows:
            row.seen |= {outcome(next(answers)) for _ in range(row.count)}

    def route(self) -> None:
        """The network sends addresses of services to the nodes."""
        lines = [
            f"route add {network} via {self.address(node, version)}"
            for (node, version), network in EXTERNAL.items()
        ]
        lines += [
            f"route add {cidr} via {self.address('node1', cidr.version)}"
            for cidr in self.box.topology.service_cidrs
        ]
        ip_batch(self.box.paths.namespace(FABRIC), lines)

    def restart_agents(self, lines: str = "") -> None:
        """Ends both agents and starts them with these settings besides."""
        paths, settings = self.box.paths, self.box.settings
        changed = settings.with_name("changed.yaml")
        changed.write_text(f"{settings.read_text()}\n{lines}\n")
        agents.stop_agents(paths)
        agents.start_agents(paths, self.box.topology, changed if lines else settings)

    def clear(self) -> None:
        """All Services of one test go."""
        for path in self.box.paths.manifests.glob("s*_default_scene*.json"):
            path.unlink()
