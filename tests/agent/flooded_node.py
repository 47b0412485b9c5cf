# SPDX-License-Identifier: Apache-2.0
"""A node with a NodePort of each protocol and family, clients and backends at its uplink, and a pod that may forge."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import named_slice, write_file
from kubypass_lab.bench.node import BareNode
from tests.agent.dialler import echo
from tests.agent.far import BACKEND, NODE

POD_ADDRESSES = ["10.1.0.9", "fd00:10:1::9"]
_FLOOD = str(Path(__file__).with_name("flood.py"))


@dataclass(frozen=True, slots=True)
class Ends:
    """The addresses of one family."""

    family: socket.AddressFamily
    bits: int
    node: str
    backend: str
    clients: tuple[str, ...]
    service: str
    """The beginning of the services' own addresses."""
    tcp: int
    """The NodePorts."""
    udp: int


V4 = Ends(
    socket.AF_INET,
    24,
    NODE,
    BACKEND,
    tuple(f"192.168.1.{number}" for number in range(60, 80)),
    "10.96.0.",
    30080,
    30081,
)
V6 = Ends(
    socket.AF_INET6,
    64,
    "fd00:c0a8:1::31",
    "fd00:c0a8:1::50",
    tuple(f"fd00:c0a8:1::{number}" for number in range(60, 80)),
    "fd00:96::",
    30082,
    30083,
)


def write_node_ports(node: BareNode, ends: Ends) -> None:
    """A NodePort of each protocol, with the backend of the family."""
    version = "IPv4" if ends is V4 else "IPv6"
    for protocol, node_port in (("TCP", ends.tcp), ("UDP", ends.udp)):
        name, address = f"{protocol}-{version}".lower(), f"{ends.service}{node_port % 100}"
        spec = {
            "type": "NodePort",
            "clusterIP": address,
            "clusterIPs": [address],
            "ipFamilies": [version],
            "ports": [{"port": 80, "nodePort": node_port, "protocol": protocol}],
        }
        metadata = {"name": name, "namespace": "default"}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        endpoints = named_slice(name, [ends.backend], 8080)
        endpoints["addressType"] = version
        endpoints["ports"] = [{"name": "", "port": 8080, "protocol": protocol}]
        write_file(node.manifests / f"{name}.json", service)
        write_file(node.manifests / f"{name}-slice.json", endpoints)


def add_addresses(node: BareNode, far: str, ends: Ends) -> None:
    """The family's addresses of the node, the clients and the backend; IPv4's that are there already stay."""
    nodad = "" if ends is V4 else " nodad"
    _ip(node.namespace, [f"addr replace {ends.node}/{ends.bits} dev eth0{nodad}"])
    there = [f"addr replace {a}/{ends.bits} dev far{nodad}" for a in (*ends.clients, ends.backend)]
    _ip(Path(far).name, there)


@contextmanager
def forging_pod(node: BareNode) -> Iterator[str]:
    """A pod with addresses of both families, in a namespace of its own; its path. Its record is there."""
    name = f"{node.namespace}-pod"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        pair = f"link add pod0 type veth peer name eth0 netns {name}"
        routes = [f"route add {address} dev pod0" for address in POD_ADDRESSES]
        _ip(node.namespace, [pair, "link set pod0 up", *routes])
        _ip(name, ["link set eth0 up", *(f"addr add {a} dev eth0" for a in POD_ADDRESSES)])
        record = {
            "name": "forger",
            "namespace": "default",
            "addresses": POD_ADDRESSES,
            "interface": "pod0",
            "mac": mac(name, "eth0"),
        }
        (node.run / "pods").mkdir(parents=True, exist_ok=True)
        (node.run / "pods" / "forger.json").write_text(json.dumps(record))
        yield f"/run/netns/{name}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@dataclass(frozen=True, slots=True)
class Flood:
    """What one flood sends, and from where."""

    path: str
    """The sender's namespace."""
    device: str
    towards: str
    """The device of the node that receives it."""
    forged: int
    rate: int
    """Packets a second; 0 for no limit."""

    @contextmanager
    def run(self, node: BareNode, ends: Ends, protocol: str) -> Iterator[None]:
        """Floods during the block, and to the end; it must have sent what it was told to."""
        macs = [mac(Path(self.path).name, self.device), mac(node.namespace, self.towards)]
        port = ends.tcp if protocol == "tcp" else ends.udp
        count = [str(self.forged), "2", str(self.rate)]
        command = [sys.executable, _FLOOD, self.device, *macs, ends.node, str(port)]
        where = ["ip", "netns", "exec", Path(self.path).name]
        with subprocess.Popen(
            [*where, *command, protocol, *count], stdout=subprocess.PIPE, text=True
        ) as flood:
            try:
                yield
            except BaseException:
                flood.kill()
                raise
            said = flood.communicate()[0]
        assert int(said.split()[0]) == 2 * self.forged
        print(protocol, *said.split(), "seconds")


def mac(namespace: str, device: str) -> str:
    command = ["ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def servers(far: str, ends: Ends) -> Iterator[None]:
    """What answers at the backend's port."""
    with inside(far):
        listener = socket.create_server((ends.backend, 8080), family=ends.family, backlog=4096)
        datagrams = socket.socket(ends.family, socket.SOCK_DGRAM)
        datagrams.bind((ends.backend, 8080))
    Thread(target=echo, args=(listener,), daemon=True).start()
    answering = Thread(target=_answer_datagrams, args=(datagrams,))
    answering.start()
    try:
        yield
    finally:
        with suppress(OSError):  # ENOTCONN; it wakes the thread all the same
            datagrams.shutdown(socket.SHUT_RDWR)
        answering.join()
        listener.shutdown(socket.SHUT_RDWR)
        for one in (listener, datagrams):
            one.close()


def _answer_datagrams(server: socket.socket) -> None:
    """Sends datagrams back, until the socket is shut down."""
    while True:
        data, sender = server.recvfrom(100)
        if sender is None:
            return
        with suppress(OSError):
            server.sendto(data, sender)


def _ip(namespace: str, lines: list[str]) -> None:
    command = ["ip", "-n", namespace, "-batch", "-"]
    subprocess.run(command, input="\n".join(lines), text=True, check=True)
