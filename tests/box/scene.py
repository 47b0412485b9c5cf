# SPDX-License-Identifier: Apache-2.0
"""A box where Services and EndpointSlices are written by hand, and questions are asked from everywhere in it.

Servers are `a1` and `b1` on node1, `a2` and `b2` on node2. Places to ask from: these, `pod1` and `pod2`, `node1` and
`node2`, `stray1` and `stray2` (processes of a node whose cgroup has no socket hooks), `client` (outside).
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Self

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import parse_address
from kubypass.model.protocol import Protocol
from kubypass_lab.box.box import Box
from kubypass_lab.box.enter import command_in, find_place
from kubypass_lab.box.files import write_json
from kubypass_lab.box.paths import FABRIC
from kubypass_lab.box.process import Process, spawn, wait_until
from kubypass_lab.box.record import PodRecord, read_pods
from kubypass_lab.box.wiring import ip_batch

Json = dict[str, object]
HERE = Path(__file__).parent
DEADLINE_S = 10.0
SERVERS = ("a1", "b1", "a2", "b2")
SILENCE_S = 0.7
"""How long no answer has to come where packets are dropped."""
REFUSED = "econnrefused"
SILENT = "no answer"
SILENCES = {"timeout", "etimedout", "eperm", "ehostunreach"}
"""What a dropped packet looks like: a socket hook foretells its end, and a router may tell of one that has no route."""
Expected = set[str] | str
Row = tuple[str, str, Expected]
"""From, to, and what comes of it."""
ALL = set(SERVERS)
SERVICES_V6 = "fd85:ee78:d8a6:8607::"
EXTERNAL = {
    ("node1", 4): "198.51.100.0/24",
    ("node2", 4): "198.51.101.0/24",
    ("node1", 6): "2001:db8:51::/64",
    ("node2", 6): "2001:db8:52::/64",
}
"""Networks of service addresses, and the node that the network sends them to."""
_SENTINEL = "10.233.63.1"


@dataclass(frozen=True)
class Port:
    """A port of a Service; `target` is the number in its slices."""

    number: int
    target: int
    protocol: str = "TCP"
    name: str = "web"
    node_port: int = 0


@dataclass(frozen=True)
class Endpoint:
    """A server as a slice tells of it."""

    server: str
    ready: bool | None = True
    serving: bool | None = None
    terminating: bool | None = None


READY = tuple(Endpoint(name) for name in SERVERS)


@dataclass(frozen=True)
class Service:
    """A Service of both families, with addresses of its own."""

    name: str
    number: int
    ports: tuple[Port, ...]
    spec: Json = field(default_factory=dict)
    labels: Json = field(default_factory=dict)
    ingress: tuple[str, ...] = ()

    def address(self, version: int) -> str:
        """Its ClusterIP of a family."""
        return (
            f"10.233.48.{self.number}" if version == 4 else f"{SERVICES_V6}{0x1800 + self.number:x}"
        )

    def external(self, version: int, node: str = "node1") -> str:
        """An address that no machine has; the network routes it to a node."""
        return str(ip_network(EXTERNAL[node, version])[self.number])

    def with_spec(self, **spec: object) -> Service:
        """The same Service with some fields of its spec changed."""
        return replace(self, spec={**self.spec, **spec})


@dataclass
class _Asked:
    """A row in one family, and what came of it so far."""

    version: int
    place: str
    to: str
    expected: Expected
    seen: set[str] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How often to ask at once: not so often that a server's buffer overflows."""
        return 2 if isinstance(self.expected, str) else 1 + 2 * len(self.expected)

    @property
    def is_short(self) -> bool:
        """Whether asking again may make it right."""
        return not isinstance(self.expected, str) and self.seen < self.expected

    @property
    def found(self) -> Expected:
        if not isinstance(self.expected, str):
            return self.seen
        return SILENT if self.seen <= SILENCES else " ".join(sorted(self.seen))

    def __str__(self) -> str:
        row = f"IPv{self.version} {self.place} -> {self.to}"
        return f"{row}: expected {self.expected}, found {self.found}"


def _outcome(answer: Json) -> str:
    return str(answer.get("pod", answer["outcome"]))


def _result(done: Future[None]) -> None:
    done.result()


class Asker:
    """A process that dials from one place."""

    def __init__(self, command: list[str]) -> None:
        command = [*command, sys.executable, str(HERE / "asker.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def call(self, calls: list[Json]) -> list[Json]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(calls) + "\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        assert isinstance(answers, list)
        return answers

    def end(self) -> None:
        with self._process:
            assert self._process.stdin
            self._process.stdin.close()


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

    def service(self, *ports: Port, node_ports: bool = False, **spec: object) -> Service:
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
        ports = [
            {"name": p.name, "port": p.number, "targetPort": p.target, "protocol": p.protocol}
            | ({"nodePort": p.node_port} if p.node_port else {})
            for p in service.ports
        ]
        addresses = [service.address(4), service.address(6)]
        spec = {
            "type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "ports": ports,
            **service.spec,
        }  # fmt: skip
        manifest: Json = {"apiVersion": "v1", "kind": "Service", "spec": spec}
        metadata = {"namespace": "default", "name": service.name, "labels": service.labels}
        ingress = [{"ip": address} for address in service.ingress]
        manifest |= {"metadata": metadata, "status": {"loadBalancer": {"ingress": ingress}}}
        self.write(f"service_default_{service.name}", manifest)

    def put_endpoints(
        self,
        service: Service,
        endpoints: Iterable[Endpoint],
        ports: Iterable[Port] | None = None,
        slice_name: str = "",
    ) -> None:
        """One slice a family; another `slice_name` is another slice beside it."""
        endpoints = tuple(endpoints)
        for version in (4, 6):
            name = f"{service.name}{slice_name}-v{version}"
            labels = {"kubernetes.io/service-name": service.name}
            self.write(f"slice_default_{name}", {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"namespace": "default", "name": name, "labels": {**labels, **service.labels}},
                "addressType": f"IPv{version}",
                "ports": [
                    {"name": p.name, "protocol": p.protocol, "port": p.target}
                    for p in (service.ports if ports is None else ports)
                ],
                "endpoints": [self._describe(each, version) for each in endpoints],
            })  # fmt: skip

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
    def node_of(place: str) -> str:
        """`node1` or `node2`."""
        return f"node{place[-1]}"

    def address(self, place: str, version: int) -> str:
        """Of a server, a visitor or a node."""
        if place.startswith("node"):
            return str(self.box.topology.node(place).address(version))
        addresses = self.pods[place].addresses
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

        assert wait_until(applied, DEADLINE_S), "the agents do not follow"

    def _has_frontend(self, node: str, port: int) -> bool:
        key = layout.Frontend(parse_address(_SENTINEL), port, Protocol.TCP).pack()
        return bool(port) and self.map(node, "services").lookup(key) is not None

    def map(self, node: str, name: str) -> Map:
        """A pinned map of a node's datapath."""
        name_of_node = self.box.topology.node(node).name
        pins = self.box.paths.node_bpffs(name_of_node) / "kubypass" / layout.LAYOUT_HASH
        return Map.open_pinned(str(pins / name))

    def asker(self, place: str) -> Asker:
        """The process that dials from a place."""
        if place not in self._askers:
            self._askers[place] = Asker(self.command(place))
        return self._askers[place]

    def command(self, place: str) -> list[str]:
        """The words before a command that runs in a place."""
        if place.startswith("stray"):
            node = self.box.topology.node(f"node{place[-1]}").name
            return ["nsenter", f"--net=/run/netns/{self.box.paths.namespace(node)}", "--"]
        target = f"pod/{self.pods[place].name}" if place in self.pods else place
        return command_in(find_place(self.box, target), [])

    def spawn(self, place: str, command: list[str], log: Path) -> Process:
        """A process in a place that is not a pod's or a node's own child."""
        node = self.box.topology.node(self.node_of(place)).name if place != "client" else ""
        if place.startswith("stray"):
            # The cgroup beside the nodes' ones: no hooks of ours above it.
            cgroup, namespace = self.box.paths.host_cgroup("client"), self.box.paths.namespace(node)
            return spawn(command, cgroup=cgroup, namespace=namespace, log=log, env={})
        found = find_place(
            self.box, f"pod/{self.pods[place].name}" if place in self.pods else place
        )
        return spawn(
            command, cgroup=found.cgroup, namespace=found.namespace, log=log, env=found.env
        )

    def name_of(self, pod: str) -> str:
        """What a pod is called here."""
        return self._names.get(pod, pod)

    def run(self, place: str, *argv: str) -> str:
        """Standard output of a command in a place, however it ends."""
        command = [*self.command(place), *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def call(
        self,
        place: str,
        address: str,
        port: int,
        protocol: str = "TCP",
        count: int = 1,
        **more: object,
    ) -> list[Json]:
        """`count` calls at once; the servers in the answers have the names that they have here."""
        call: Json = {"how": "ask", "protocol": protocol, "address": address, "port": port, **more}
        return self._call(place, [call] * count)

    def _call(self, place: str, calls: list[Json]) -> list[Json]:
        answers = self.asker(place).call(calls)
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
        place: str,
        to: str,
        version: int,
        port: Port | None = None,
        count: int = 1,
        **more: object,
    ) -> list[Json]:
        """Asks a frontend of a Service, its first port where none is told."""
        port = port or service.ports[0]
        address, number = self.target(service, to, version, port)
        return self.call(place, address, number, port.protocol, count, **more)

    def check(self, service: Service, rows: Iterable[Row], port: Port | None = None) -> None:
        """Every row, in both families, all at once; every row that is wrong is told.

        Where servers are expected, asks until each has answered, or often enough to be sure that one never does.
        """
        asked = [_Asked(version, *row) for row in rows for version in (4, 6)]
        pending = asked
        for _ in range(16):
            places = sorted({each.place for each in pending})
            with ThreadPoolExecutor(len(places)) as pool:
                for place in places:
                    mine = [each for each in pending if each.place == place]
                    pool.submit(self._ask_rows, service, mine, port).add_done_callback(_result)
            pending = [each for each in pending if each.is_short]
            if not pending:
                break
        wrong = [str(each) for each in asked if each.found != each.expected]
        assert not wrong, "\n".join(wrong)

    def _ask_rows(self, service: Service, rows: list[_Asked], port: Port | None) -> None:
        """Rows that ask from one place."""
        port = port or service.ports[0]
        calls: list[Json] = []
        for row in rows:
            address, number = self.target(service, row.to, row.version, port)
            call: Json = {
                "how": "ask",
                "protocol": port.protocol,
                "address": address,
                "port": number,
            }
            if row.expected == SILENT:
                call["timeout_s"] = SILENCE_S
            calls += [call] * row.count
        answers = iter(self._call(rows[0].place, calls))
        for row in rows:
            row.seen |= {_outcome(next(answers)) for _ in range(row.count)}

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

    def clear(self) -> None:
        """All Services of one test go."""
        for path in self.box.paths.manifests.glob("s*_default_scene*.json"):
            path.unlink()
