# SPDX-License-Identifier: Apache-2.0
"""Segments that no receiver would take, on a live node: connections that they name go on, and may be idle for long."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Packet, Raw

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.kernel.netns import inside
from kubypass.model.verdict import FlowState
from kubypass_lab.box.paths import CLIENT, FABRIC, NETNS
from kubypass_lab.box.patience import ANSWER_S
from tests.box.conftest import Cluster
from tests.box.forging import address_of, router
from tests.waiting import wait

VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
FLAGS = ("S", "R", "RA", "F", "FA", "SA", "SF", "SFRPA", "PA", "")
LONG_S = 1000
SECOND_NS = 1_000_000_000
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Connection:
    """One that the client keeps: its socket, and both pairs of ends, as the client and as the backend has them."""

    client: socket.socket
    pod: str
    forward: tuple[str, int, str, int]
    reply: tuple[str, int, str, int]

    def asks(self) -> str:
        """The pod that answers now."""
        self.client.sendall(b"who?\n")
        text = self.client.recv(65536)
        assert text, "closed"
        return str(json.loads(text)["pod"])


@dataclass(frozen=True, slots=True)
class ClientHost:
    """Where a client is: in a pod of node1 whose sockets no hook sees, or outside."""

    cluster: Cluster
    namespace: str
    address: str
    frontend: tuple[str, int]

    def dial(self, port: int = 0) -> socket.socket:
        """A connection from a port of one's own."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with inside(self.namespace):
            made = socket.socket(family)
        made.settimeout(ANSWER_S)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self.address, port))
        made.connect(self.frontend)
        return made

    @contextmanager
    def connections(self, count: int) -> Iterator[list[Connection]]:
        """Some connections that have been used."""
        with ExitStack() as stack:
            yield [self._connect(stack.enter_context(self.dial())) for _ in range(count)]

    def _connect(self, client: socket.socket) -> Connection:
        client.sendall(b"who?\n")
        answer = json.loads(client.recv(65536))
        seen, _, port = str(answer["client"]).rpartition(":")
        pod = next(pod for pod in self.cluster.pods("echo") if pod.name == answer["pod"])
        backend = address_of(pod, 6 if ":" in self.address else 4)
        forward = (*client.getsockname()[:2], *self.frontend)
        return Connection(client, pod.name, forward, (backend, 8080, seen.strip("[]"), int(port)))


@pytest.fixture(params=["outside", "pod"])
def where(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client_host(cluster: Cluster, where: str, version: int) -> ClientHost:
    paths = cluster.box.paths
    if where == "outside":
        address = {4: "203.0.113.9", 6: "2001:db8:cafe::9"}[version]
        frontend = cluster.host(version, "node1").strip("[]"), cluster.node_port("echo")
        return ClientHost(cluster, str(NETNS / paths.namespace(CLIENT)), address, frontend)
    node = cluster.box.topology.node("node1").name
    pod = next(pod for pod in cluster.pods("visitor") if pod.node == node)
    frontend = cluster.host(version, "echo").strip("[]"), 80
    return ClientHost(
        cluster, str(NETNS / paths.pod_namespace(pod.id)), address_of(pod, version), frontend
    )


class Attacker:
    """Sends whole IP packets from a network namespace, in anybody's name."""

    def __init__(self, namespace: str) -> None:
        with inside(namespace):
            self._by_version = {
                4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
                6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
            }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        for raw in self._by_version.values():
            raw.close()

    def send(self, packet: Packet) -> None:
        self._by_version[packet.version].sendto(bytes(packet), (packet.dst, 0))

    def forge(self, ends: tuple[str, int, str, int]) -> None:
        """Every kind of segment between these ends, with numbers that are only guessed."""
        for flags in FLAGS:
            for payload in (b"", b"who?\n"):
                self.send(segment(ends, flags) / Raw(payload))
        self.send(error_about((*ends[2:], *ends[:2])))


def segment(ends: tuple[str, int, str, int], flags: str) -> Packet:
    source, port, to, to_port = ends
    numbers: dict[str, Any] = {
        "seq": random.getrandbits(32),
        "ack": random.getrandbits(32) if "A" in flags else 0,
    }
    head = IPv6(src=source, dst=to) if ":" in source else IP(src=source, dst=to)
    return head / TCP(sport=port, dport=to_port, flags=flags, **numbers)


def error_about(ends: tuple[str, int, str, int]) -> Packet:
    """That nobody listens, about a segment that was never sent."""
    quoted = segment(ends, "PA")
    if quoted.version == 6:
        return IPv6(src=ends[2], dst=ends[0]) / ICMPv6DestUnreach(code=4) / quoted
    return IP(src=ends[2], dst=ends[0]) / ICMP(type=3, code=3) / quoted


def flows(cluster: Cluster, port: int) -> list[layout.Flow]:
    """What node1 knows of the connections from a client's port: both directions."""
    node = cluster.box.topology.node("node1").name
    pins = cluster.box.paths.node_bpffs(node) / "kubypass" / layout.LAYOUT_HASH
    found = []
    for raw, value in Map.open_pinned(str(pins / "flows")).items():
        key, flow = layout.Tuple.unpack(raw), layout.Flow.unpack(value)
        if port in (key.source_port, flow.destination_port):
            found.append(flow)
    return found


def lives(cluster: Cluster, one: Connection) -> bool:
    """Whether the connection goes on, by the pod that it had, and both directions may be idle for long."""
    now = time.monotonic_ns()
    found = flows(cluster, one.forward[1])
    left = [(flow.expires_ns - now) / SECOND_NS for flow in found]
    states = {flow.state for flow in found}
    assert one.asks() == one.pod
    return len(found) >= 2 and min(left) > LONG_S and states == {FlowState.ESTABLISHED}


@VERSIONS
def test_connections_go_on(cluster: Cluster, where: str, version: int) -> None:
    """The attackers are a pod on the node, which may forge, a host in the network, and the client's own host."""
    here = client_host(cluster, where, version)
    node = cluster.box.topology.node("node1").name
    hostile = next(pod for pod in cluster.pods("my-nginx") if pod.node == node)
    paths = cluster.box.paths
    with router(cluster.box, hostile, "allowed"), here.connections(8) as kept:
        wait(lambda: cluster.status("node1")["source_ip_verification"].get("exempt_pods"), "it may")
        for one in kept:
            assert lives(cluster, one)
        for namespace in (here.namespace, str(NETNS / paths.pod_namespace(hostile.id))):
            with Attacker(namespace) as attacker:
                for one in kept:
                    attacker.forge(one.forward)
        with Attacker(str(NETNS / paths.namespace(FABRIC))) as attacker:
            for one in kept:
                attacker.forge(one.reply)
        for one in kept:
            assert lives(cluster, one), (one, flows(cluster, one.forward[1]))
        last = kept[-1]
        last.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        port = last.forward[1]
        last.client.close()  # with the right number
        wait(lambda: {f.state for f in flows(cluster, port)} <= {FlowState.CLOSED}, "its end")


@VERSIONS
def test_a_port_is_used_again_at_once(cluster: Cluster, where: str, version: int) -> None:
    """After a reset, a client's next connection from the port is a new one, and its port chooses the same backend."""
    here = client_host(cluster, where, version)
    port, answered = free_port(here), []
    for _ in range(20):
        with here.dial(port) as made:
            made.sendall(b"who?\n")
            answered.append(json.loads(made.recv(65536))["pod"])
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert (len(answered), len(set(answered))) == (20, 1)


def free_port(here: ClientHost) -> int:
    """A port that nobody has used just now."""
    family = socket.AF_INET6 if ":" in here.address else socket.AF_INET
    with inside(here.namespace), socket.socket(family) as probe:
        probe.bind((here.address, 0))
        return int(probe.getsockname()[1])


@VERSIONS
def test_a_forged_syn_before_the_true_one(cluster: Cluster, where: str, version: int) -> None:
    """Half-open: the answer reaches the true client, whose reset ends it; its own SYN then opens a connection."""
    here = client_host(cluster, where, version)
    with Attacker(here.namespace) as attacker:
        for flags, payload in (("S", b""), ("S", b"who?\n"), ("SF", b""), ("SA", b""), ("R", b"")):
            port = free_port(here)
            for _ in range(3):
                attacker.send(segment((here.address, port, *here.frontend), flags) / Raw(payload))
            with here.dial(port) as client:
                client.sendall(b"who?\n")
                assert json.loads(client.recv(65536))["pod"]
