# SPDX-License-Identifier: Apache-2.0
"""BIG TCP: segments whose length does not fit their IP header, which then says zero: their numbers are followed."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread

import pytest

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.kernel.netns import inside
from kubypass.model.verdict import FlowState
from kubypass_lab.box.paths import CLIENT, FABRIC, NETNS
from kubypass_lab.box.patience import DEADLINE_S
from tests.box.conftest import EVERYWHERE, Cluster
from tests.waiting import wait

VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
PORT = 9090
AT_ONCE = 16
BYTES = 8 << 20
LONG = 150_000
FITS = 65535
USUAL = 65536
SERVICE = f"""
    apiVersion: v1
    kind: Service
    metadata: {{name: downloads}}
    spec:
      type: NodePort
      ipFamilyPolicy: RequireDualStack
      selector: {{app: visitor}}
      ports: [{{port: 80, targetPort: {PORT}}}]
"""
RTM_SETLINK, ACKNOWLEDGED = 19, 0x5
IFLA_MAX_SIZES = (41, 58, 63, 64)
"""The attributes of a device for GSO and GRO, and for both in IPv4, which came with Linux 6.3."""


def set_sizes(namespace: str, devices: list[str], size: int) -> None:
    """How long the packets may be that these devices take and make; the kernel's usual answer is 65536."""
    attributes = b"".join(struct.pack("=HHI", 8, kind, size) for kind in IFLA_MAX_SIZES)
    with (
        inside(namespace),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink,
    ):
        for device in devices:
            body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(device), 0, 0) + attributes
            netlink.send(
                struct.pack("=IHHII", 16 + len(body), RTM_SETLINK, ACKNOWLEDGED, 1, 0) + body
            )
            (error,) = struct.unpack_from("=i", netlink.recv(4096), 16)
            if error:
                pytest.skip(
                    f"{device} does not take longer packets ({-error}): IPv4's came with Linux 6.3"
                )


def devices(cluster: Cluster) -> dict[str, list[str]]:
    """Every device on the way from a pod to the client, by its namespace."""
    paths, box = cluster.box.paths, cluster.box
    found = {paths.namespace(CLIENT): ["eth0"], paths.namespace(FABRIC): ["client", "nodes"]}
    found[paths.namespace(FABRIC)] += [node.alias for node in box.nodes]
    for node in box.nodes:
        pods = [pod for pod in cluster.pods("visitor") if pod.node == node.name]
        found[paths.namespace(node.name)] = ["eth0", *(pod.interface for pod in pods)]
        found |= {paths.pod_namespace(pod.id): ["eth0"] for pod in pods}
    return {str(NETNS / name): names for name, names in found.items()}


@pytest.fixture(scope="module")
def wide(cluster: Cluster) -> Iterator[Cluster]:
    cluster.apply(SERVICE)
    ways = devices(cluster)
    try:
        for namespace, names in ways.items():
            set_sizes(namespace, names, LONG)
        yield cluster
    finally:
        for namespace, names in ways.items():
            set_sizes(namespace, names, USUAL)


def upload(listener: socket.socket) -> None:
    """Sends a lot to whoever connects."""
    while True:
        try:
            made = listener.accept()[0]
        except OSError:
            return
        Thread(target=send_all, args=(made,), daemon=True).start()


def send_all(made: socket.socket) -> None:
    """Sends it, and then waits for the other end."""
    with made:
        made.sendall(bytes(BYTES))
        with suppress(ConnectionResetError):
            made.recv(1)


@contextmanager
def servers(cluster: Cluster, version: int) -> Iterator[None]:
    """Both visitors give downloads."""
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    with ExitStack() as stack:
        for pod in cluster.pods("visitor"):
            with inside(str(NETNS / cluster.box.paths.pod_namespace(pod.id))):
                listener = socket.create_server(("", PORT), family=family, backlog=64)
            stack.callback(listener.close)
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            Thread(target=upload, args=(listener,), daemon=True).start()
        yield


def longest(tap: socket.socket) -> int:
    """The longest of the frames that it has got."""
    found = 0
    while True:
        try:
            found = max(
                found, tap.recv_into(bytearray(1), 1, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
            )
        except BlockingIOError:
            return found


def states(cluster: Cluster, ports: set[int]) -> list[tuple[FlowState, float]]:
    """State and remaining seconds of each direction of the downloads to these ports of the client."""
    node = cluster.box.topology.node("node1").name
    pins = cluster.box.paths.node_bpffs(node) / "kubypass" / layout.LAYOUT_HASH
    service = cluster.node_port("downloads")
    found, now = [], time.monotonic_ns()
    for raw, value in Map.open_pinned(str(pins / "flows")).items():
        key, flow = layout.Tuple.unpack(raw), layout.Flow.unpack(value)
        asks = key.source_port in ports and key.destination_port == service
        if asks or (flow.destination_port in ports and flow.source_port == service):
            found.append((FlowState(flow.state), (flow.expires_ns - now) / 1e9))
    return found


@VERSIONS
def test_downloads_at_once_are_whole_and_their_ends_are_seen(wide: Cluster, version: int) -> None:
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    to = wide.host(version, "node1").strip("[]"), wide.node_port("downloads")
    with ExitStack() as stack:
        stack.enter_context(servers(wide, version))
        node = wide.box.topology.node("node1").name
        with inside(str(NETNS / wide.box.paths.namespace(node))):
            tap = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            tap.bind(("eth0", 3))
        with inside(str(NETNS / wide.box.paths.namespace(CLIENT))):
            clients = [stack.enter_context(socket.socket(family)) for _ in range(AT_ONCE)]
        sizes: list[list[int]] = [[] for _ in clients]
        readers = [
            Thread(target=download, args=(client, to, size))
            for client, size in zip(clients, sizes, strict=True)
        ]
        for reader in readers:
            reader.start()
        seen = 0
        while any(reader.is_alive() for reader in readers):
            seen = max(seen, longest(tap))
            readers[0].join(0.01)
        assert sizes == [[BYTES]] * AT_ONCE
        legacy = any(line.startswith("enable-host-legacy-routing") for line in EVERYWHERE)
        stays = version == 4 or not legacy  # the stack does not forward such segments of IPv6
        assert seen > FITS or not stays, "no segment was too long for its IP header"
        ports = {client.getsockname()[1] for client in clients}
        living = states(wide, ports)
        assert len(living) >= 2 * AT_ONCE
        assert {state for state, _ in living} == {FlowState.ESTABLISHED}
        assert min(left for _, left in living) > 1000
        for number, client in enumerate(clients):
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait(lambda: {s for s, _ in states(wide, ports)} <= {FlowState.CLOSED}, "all to be over")


def download(client: socket.socket, to: tuple[str, int], size: list[int]) -> None:
    """Takes all that is sent."""
    client.settimeout(DEADLINE_S)
    client.connect(to)
    left = BYTES
    while left:
        got = len(client.recv(min(left, 1 << 20)))
        if not got:
            break
        left -= got
    size.append(BYTES - left)
