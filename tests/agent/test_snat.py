# SPDX-License-Identifier: Apache-2.0
"""Many real clients with the same source ports through one NodePort to one backend, and ports that run out."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from kubypass.kernel.netns import inside
from kubypass_lab.bench.node import BareNode, agent, bare_node
from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S
from tests.agent.far import BACKEND, NODE, NODE_PORT, neighbours, write_node_port

CLIENTS = [f"192.168.1.{number}" for number in range(60, 160)]
PORTS = range(20000, 20004)
ROUNDS = 3
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: loads BPF programs")


@contextmanager
def answering(far: str, seen: list[tuple[str, int]]) -> Iterator[None]:
    """A backend that sends back what it is sent, then closes; `seen` gets the clients as it sees them."""
    with inside(far):
        listener = socket.create_server((BACKEND, 8080), backlog=1024)

    def serve() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            seen.append(address)
            with connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(connection.recv(100))

    thread = Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def dial(far: str, client: tuple[str, int]) -> socket.socket:
    """A connection under way."""
    with inside(far):
        made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setblocking(False)
    made.bind(client)
    made.connect_ex((NODE, NODE_PORT))
    return made


def ask_all(far: str, clients: list[tuple[str, int]]) -> int:
    """All at once; each sends its own name and must get it back. How many did."""
    waiting, answered = selectors.DefaultSelector(), 0
    for client in clients:
        waiting.register(dial(far, client), selectors.EVENT_WRITE, client)
    deadline = time.monotonic() + 2 * DEADLINE_S
    while waiting.get_map() and time.monotonic() < deadline:
        for key, event in waiting.select(0.1):
            one, name = key.fileobj, repr(key.data).encode()
            assert isinstance(one, socket.socket)
            if event == selectors.EVENT_WRITE:
                one.sendall(name)
                waiting.modify(one, selectors.EVENT_READ, key.data)
                continue
            assert one.recv(100) == name
            answered += 1
            waiting.unregister(one)
            # Closed by a reset: no port of the client's waits.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.close()
    for key in list(waiting.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    return answered


def test_a_storm_of_real_clients_with_the_same_ports() -> None:
    """Each round the same ports again: a hundred clients for each port, and one backend."""
    seen: list[tuple[str, int]] = []
    asked = [(host, port) for port in PORTS for host in CLIENTS]
    with bare_node() as node, neighbours(node, CLIENTS) as far, answering(far, seen):
        write_node_port(node)
        with agent(node):
            for _ in range(ROUNDS):
                before = len(seen)
                assert ask_all(far, asked) == len(asked)
                assert len(set(seen[before:])) == len(asked)
            assert {host for host, _ in seen} == {NODE}
            assert {port for _, port in seen if port < 61000} == set(PORTS)
            assert node.status()["snat"]["failures"] == []


def set_ephemeral(node: BareNode, ports: str) -> None:
    where = ["nsenter", f"--net=/run/netns/{node.namespace}"]
    subprocess.run([*where, "sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}"], check=True)


def snat_problems(node: BareNode) -> list[str]:
    return [one["message"] for one in node.status()["problems"] if one["subject"] == "SNAT"]


def test_ports_that_run_out_are_told_by_backend() -> None:
    with bare_node() as node, neighbours(node, CLIENTS) as far:
        set_ephemeral(node, "1024 65530")
        write_node_port(node)
        with agent(node):
            assert node.status()["snat"] == {"ports": "65531-65535", "count": 5, "failures": []}
            (few,) = snat_problems(node)
            assert few.startswith("only 5 source ports (65531-65535)")
            with inside(far):  # what is not confirmed would give way
                listener = socket.create_server((BACKEND, 8080))
            under_way = [dial(far, (host, 20000)) for host in CLIENTS[:10]]
            deadline = time.monotonic() + DEADLINE_S
            while len(snat_problems(node)) < 2:
                assert time.monotonic() < deadline
            assert f"no free source port towards {BACKEND}:8080/TCP: " in snat_problems(node)[1]
            (failure,) = node.status()["snat"]["failures"]
            assert failure["backend"] == f"{BACKEND}:8080/TCP"
            assert failure["connections"] >= 4
            metrics = node.ask("/metrics")[1].decode()
            assert f'kubypass_snat_failures_total{{backend="{BACKEND}:8080/TCP"}}' in metrics
        with agent(node, "--node-port-nat-range-ext=1024,29999"):
            assert node.status()["snat"]["ports"] == "65531-65535, 1024-29999"
            (overlap, *_) = snat_problems(node)
            assert overlap.startswith("source ports 1024-29999 overlap")
        for one in (*under_way, listener):
            one.close()
