# SPDX-License-Identifier: Apache-2.0
"""Floods of forged first packets through a NodePort: idle connections live on, and new ones are opened meanwhile."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from contextlib import ExitStack

import pytest

from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.far import neighbours
from tests.agent.flooded_node import (
    V4,
    V6,
    Ends,
    Flood,
    add_addresses,
    forging_pod,
    servers,
    write_node_ports,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
SIZE = int(os.environ.get("KUBYPASS_FLOWS", "1024"))
"""TCP connections that the maps promise to hold; by default the least that the settings allow."""
IDLE = min(1000, SIZE * 5 // 6)
NEW = 30
FORGED = int(os.environ.get("KUBYPASS_FORGED", "40000"))
"""Clients of a flood; each repeats its packet."""
RATE = int(os.environ.get("KUBYPASS_FLOOD_RATE", "0"))
"""Packets a second; 0 for no limit."""


def connect(far: str, ends: Ends, kind: int, count: int, stack: ExitStack) -> list[socket.socket]:
    """Clients of the NodePort, of which each has got an answer."""
    made = []
    port = ends.tcp if kind == socket.SOCK_STREAM else ends.udp
    with inside(far):
        for number in range(count):
            one = stack.enter_context(socket.socket(ends.family, kind))
            one.settimeout(DEADLINE_S)
            one.bind((ends.clients[number % len(ends.clients)], 0))
            one.connect((ends.node, port))
            made.append(one)
    assert lost(made) == 0
    return made


def readable(connections: set[socket.socket]) -> set[socket.socket]:
    """Returns those that have something to say within a second."""
    poll, numbers = select.poll(), {one.fileno(): one for one in connections}
    for number in numbers:
        poll.register(number, select.POLLIN)
    return {numbers[number] for number, _ in poll.poll(1000)}


def answers(one: socket.socket) -> bool:
    try:
        return one.recv(100) == b"ask"
    except OSError:
        return False


def lost(connections: list[socket.socket]) -> int:
    """How many do not answer any more. Datagrams may get lost: those are sent again."""
    deadline, waiting, gone = time.monotonic() + DEADLINE_S, set(connections), 0
    for one in connections:
        one.send(b"ask")
    while waiting and time.monotonic() < deadline:
        ready = readable(waiting)
        gone += sum(not answers(one) for one in ready)
        waiting -= ready
        for one in waiting:
            if one.type == socket.SOCK_DGRAM:
                one.send(b"ask")
    return gone + len(waiting)


def write_settings(node: BareNode) -> str:
    """The smallest maps, and pods that may send from any address; its path."""
    settings = {
        "bpf-ct-global-tcp-max": SIZE,
        "bpf-ct-global-any-max": max(1024, SIZE // 2),
        "enable-source-ip-verification": False,
    }
    write_file(node.root / "settings.yaml", settings)
    return str(node.root / "settings.yaml")


@pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("sender", ["outside", "pod"])
def test_floods_end_no_connection_and_keep_none_away(ends: Ends, sender: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        node = stack.enter_context(bare_node())
        far = stack.enter_context(neighbours(node, V4.clients))
        add_addresses(node, far, ends)
        stack.enter_context(servers(far, ends))
        write_node_ports(node, ends)
        pod = stack.enter_context(forging_pod(node))
        stack.enter_context(agent(node, "--config", write_settings(node)))
        path, device, towards = (
            (far, "far", "eth0") if sender == "outside" else (pod, "eth0", "pod0")
        )
        flood = Flood(path, device, towards, FORGED, RATE)
        idle = connect(far, ends, socket.SOCK_STREAM, IDLE, stack)
        asking = connect(far, ends, socket.SOCK_DGRAM, 50, stack)
        for protocol in ("tcp", "udp"):
            with flood.run(node, ends, protocol), ExitStack() as new:
                connect(far, ends, socket.SOCK_STREAM, NEW, new)
                connect(far, ends, socket.SOCK_DGRAM, NEW, new)
        assert (lost(idle), lost(asking)) == (0, 0)
        hook = "from_uplink" if sender == "outside" else "from_pod"
        sent, refused = (counted(node, hook, one) for one in ("to_network", "drop_no_snat_port"))
        print(f"{sent} packets sent on, {refused} without a free source port")
        assert sent + refused >= 4 * FORGED
        status = node.status()
        (flows,) = (one for one in status["bpf_maps"] if one["name"] == "flows")
        assert (flows["max_entries"], flows["evicted"]) == (2 * SIZE, 0)
        assert not [one for one in status["problems"] if one["subject"] == "Map flows"]


def counted(node: BareNode, hook: str, verdict: str) -> int:
    """How many packets of a hook had this verdict."""
    label = f'kubypass_packets_total{{hook="{hook}",verdict="{verdict}"}} '
    lines = node.ask("/metrics")[1].decode().splitlines()
    return sum(int(one.rpartition(" ")[2]) for one in lines if one.startswith(label))
