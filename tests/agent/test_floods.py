# SPDX-License-Identifier: Apache-2.0
"""Floods of forged first packets through a NodePort: idle connections live on, and new ones are opened meanwhile."""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from kubypass.kernel.netns import inside
from kubypass_lab.bench.cluster import named_service, named_slice, write_file
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import DEADLINE_S
from tests.agent.dialler import echo
from tests.agent.far import BACKEND, NODE, NODE_PORT, neighbours, write_node_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")
CLIENTS = [f"192.168.1.{number}" for number in range(60, 80)]
UDP_PORT = NODE_PORT + 1
SIZE = int(os.environ.get("KUBYPASS_FLOWS", "1024"))
"""TCP connections that the maps promise to hold; by default the least that the settings allow."""
IDLE = min(1000, SIZE * 5 // 6)
NEW = 30
FORGED = int(os.environ.get("KUBYPASS_FORGED", "40000"))
"""Clients of a flood; each repeats its packet."""


def mac(namespace: str, device: str) -> str:
    return (
        subprocess.run(
            ["ip", "netns", "exec", namespace, "cat", f"/sys/class/net/{device}/address"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    ).strip()


@contextmanager
def flooding(node: BareNode, far: str, protocol: str, port: int) -> Iterator[None]:
    """A flood during the block, and to its end; it must have sent what it was told to."""
    script = str(Path(__file__).with_name("flood.py"))
    macs = [mac(Path(far).name, "far"), mac(node.namespace, "eth0")]
    count = [str(FORGED), "2", "0"]
    command = [sys.executable, script, "far", *macs, NODE, str(port), protocol, *count]
    where = ["ip", "netns", "exec", Path(far).name]
    with subprocess.Popen([*where, *command], stdout=subprocess.PIPE, text=True) as flood:
        try:
            yield
        except BaseException:
            flood.kill()
            raise
        said = flood.communicate()[0]
    assert int(said.split()[0]) == 2 * FORGED
    print(protocol, *said.split(), "seconds")


def answer_datagrams(server: socket.socket) -> None:
    """Sends datagrams back, until the socket is closed."""
    try:
        while True:
            data, sender = server.recvfrom(100)
            server.sendto(data, sender)
    except OSError:
        return


@contextmanager
def servers(far: str) -> Iterator[None]:
    """What answers at the backend's port."""
    with inside(far):
        listener = socket.create_server((BACKEND, 8080), backlog=4096)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((BACKEND, 8080))
    Thread(target=echo, args=(listener,), daemon=True).start()
    Thread(target=answer_datagrams, args=(datagrams,), daemon=True).start()
    yield
    for one in (listener, datagrams):
        if one is listener:
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def connect(far: str, count: int, kind: int, port: int, stack: ExitStack) -> list[socket.socket]:
    """Clients of the NodePort, of which each has got an answer."""
    made = []
    with inside(far):
        for number in range(count):
            one = stack.enter_context(socket.socket(socket.AF_INET, kind))
            one.settimeout(DEADLINE_S)
            one.bind((CLIENTS[number % len(CLIENTS)], 0))
            one.connect((NODE, port))
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


def write_objects(node: BareNode) -> None:
    """The smallest maps, and a NodePort for each protocol."""
    sizes = {"bpf-ct-global-tcp-max": SIZE, "bpf-ct-global-any-max": max(1024, SIZE // 2)}
    write_file(node.root / "settings.yaml", sizes)
    write_node_port(node)
    udp = named_service("udp", "10.96.0.2")
    port = {"port": 80, "nodePort": UDP_PORT, "protocol": "UDP"}
    udp["spec"] = {
        "type": "NodePort",
        "clusterIP": "10.96.0.2",
        "clusterIPs": ["10.96.0.2"],
        "ports": [port],
    }
    write_file(node.manifests / "udp.json", udp)
    endpoints = named_slice("udp", [BACKEND], 8080)
    endpoints["ports"] = [{"name": "", "port": 8080, "protocol": "UDP"}]
    write_file(node.manifests / "udp-slice.json", endpoints)


def test_floods_end_no_connection_and_keep_none_away() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        node = stack.enter_context(bare_node())
        far = stack.enter_context(neighbours(node, CLIENTS))
        stack.enter_context(servers(far))
        write_objects(node)
        stack.enter_context(agent(node, "--config", str(node.root / "settings.yaml")))
        idle = connect(far, IDLE, socket.SOCK_STREAM, NODE_PORT, stack)
        asking = connect(far, 50, socket.SOCK_DGRAM, UDP_PORT, stack)
        for protocol, port in (("tcp", NODE_PORT), ("udp", UDP_PORT)):
            with flooding(node, far, protocol, port), ExitStack() as new:
                connect(far, NEW, socket.SOCK_STREAM, NODE_PORT, new)
                connect(far, NEW, socket.SOCK_DGRAM, UDP_PORT, new)
        assert (lost(idle), lost(asking)) == (0, 0)
        status = node.status()
        (flows,) = (one for one in status["bpf_maps"] if one["name"] == "flows")
        assert (flows["max_entries"], flows["evicted"]) == (2 * SIZE, 0)
        assert not [one for one in status["problems"] if one["subject"] == "Map flows"]
