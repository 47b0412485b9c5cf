# SPDX-License-Identifier: Apache-2.0
"""An agent whose flows knew no TCP numbers is followed by ours: its connections live on, and end as they should."""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.kernel.netns import inside
from kubypass.model.verdict import FlowFlag, FlowState
from kubypass_lab.bench.node import BareNode, agent, bare_node
from tests.agent.both_families import add_ipv6, two_clients
from tests.agent.dialler import CLIENT, talk
from tests.agent.far import neighbours, write_node_port
from tests.agent.versions import earlier_version, has_commit
from tests.waiting import wait

COMMIT = "d9f37f5"
"""The last version that took every segment of a known tuple for its connection's."""
FLAGS = ("FA", "PA", "R", "RA", "SA", "S")
SECOND_NS = 1_000_000_000
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs"),
    pytest.mark.skipif(not has_commit(COMMIT), reason=f"commit {COMMIT} is not in this checkout"),
]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PYTHONPATH of the version before."""
    return earlier_version(tmp_path_factory.mktemp("earlier"), COMMIT)


def flows(node: BareNode, port: int) -> list[layout.Flow]:
    """Both directions of the connection from this port of the client."""
    found = [
        (layout.Tuple.unpack(key), layout.Flow.unpack(value))
        for key, value in Pins(node.root / "bpf").open_map("flows").items()
    ]
    return [flow for key, flow in found if port in (key.source_port, flow.destination_port)]


def forged(client: socket.socket, flags: str) -> Packet:
    """A segment of the client's connection, of which only the ends are right."""
    (source, port), (to, to_port) = client.getsockname()[:2], client.getpeername()[:2]
    head = IPv6(src=source, dst=to) if ":" in source else IP(src=source, dst=to)
    return head / TCP(sport=port, dport=to_port, flags=flags, seq=12345, ack=54321)


def forge(far: str, client: socket.socket) -> None:
    """Sends one segment of each kind, from the client's own host."""
    family = client.family
    with inside(far), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for flags in FLAGS:
            packet = forged(client, flags)
            raw.sendto(bytes(packet), (packet.dst, 0))


def living(node: BareNode, client: socket.socket) -> bool:
    """Whether both directions are established, and may be idle for long."""
    found = flows(node, client.getsockname()[1])
    least = min(flow.expires_ns for flow in found) - time.monotonic_ns()
    states = {flow.state for flow in found}
    return len(found) == 2 and states == {FlowState.ESTABLISHED} and least > 1000 * SECOND_NS


def has_numbers(node: BareNode, client: socket.socket, server: socket.socket) -> bool:
    """Whether both directions have shown their numbers by now; the entries are looked at about once a second."""
    talk(client, server, b"more")
    one, other = flows(node, client.getsockname()[1])
    return bool(one.flags & other.flags & FlowFlag.NUMBERED)


def has_true_numbers(node: BareNode, client: socket.socket) -> bool:
    """Whether each direction acknowledges all of the other; the client delays its last acknowledgment."""
    one, other = flows(node, client.getsockname()[1])
    return (one.end, other.end) == (other.acknowledged, one.acknowledged)


def test_connections_without_numbers_live_on(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bare_node() as node, neighbours(node, [CLIENT]) as far, ExitStack() as stack:
        write_node_port(node)
        add_ipv6(node, far)
        clients = stack.enter_context(two_clients(far))
        connections = []
        monkeypatch.setenv("PYTHONPATH", str(earlier))
        with agent(node):
            for client, node_port, listener in clients:
                client.connect(node_port)
                server = stack.enter_context(listener.accept()[0])
                server.settimeout(client.gettimeout())
                talk(client, server, b"before")
                connections.append((client, server))
        monkeypatch.delenv("PYTHONPATH")
        with agent(node):
            assert "flows: 4 entries were carried over" in node.status()["upgrade"]
            for client, server in connections:
                known = flows(node, client.getsockname()[1])
                assert {flow.flags & FlowFlag.NUMBERED for flow in known} == {0}
                forge(far, client)
                talk(client, server, b"after")
                assert living(node, client)
                wait(partial(has_numbers, node, client, server), "numbers")
                wait(partial(has_true_numbers, node, client), "true numbers")
                forge(far, client)
                talk(client, server, b"again")
                assert living(node, client)
            check_ends(node, connections)


def check_ends(node: BareNode, connections: list[tuple[socket.socket, socket.socket]]) -> None:
    """One connection ends by FINs, the other by a reset; both are noticed."""
    (one, its_server), (other, _) = connections
    ports = [client.getsockname()[1] for client in (one, other)]
    one.close()
    assert its_server.recv(100) == b""
    its_server.close()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    wait(lambda: all(is_over(node, port) for port in ports), "both to be over")


def is_over(node: BareNode, port: int) -> bool:
    """Whether nothing but the end of the connection is known."""
    return {flow.state for flow in flows(node, port)} <= {FlowState.CLOSED}
