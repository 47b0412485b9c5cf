# SPDX-License-Identifier: Apache-2.0
"""Real sockets between network namespaces."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from kubypass.kernel import netns
from kubypass_lab.box.patience import ANSWER_S


def _socket(place: str, address: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(place):
        made = socket.socket(family, kind)
    made.settimeout(ANSWER_S)
    return made


@contextmanager
def listening(place: str, address: str, port: int) -> Iterator[socket.socket]:
    """A TCP server's socket."""
    with _socket(place, address, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        yield server


def exchange(place: str, server: socket.socket, to: tuple[str, int], size: int = 100_000) -> str:
    """Connects, sends and gets the same back; returns the client's address as the server sees it."""
    text = os.urandom(size)
    with _socket(place, to[0], socket.SOCK_STREAM) as client:
        client.connect(to)
        accepted, peer = server.accept()
        with accepted:
            accepted.settimeout(ANSWER_S)
            for sender, receiver in ((client, accepted), (accepted, client)):
                left, got = memoryview(text), b""
                while len(got) < size:
                    left = left[sender.send(left[:16384]) :] if left else left
                    got += receiver.recv(65536)
                assert got == text
    return str(peer[0])


def connects(source: str, server: str, address: str, port: int = 8080) -> str:
    """Connects from one namespace to an address in another, and returns the client's address."""
    with listening(server, address, port) as made:
        return exchange(source, made, (address, port))
