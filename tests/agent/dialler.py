# SPDX-License-Identifier: Apache-2.0
"""Real TCP connections through a NodePort, opened and used while agents come and go."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from kubypass.kernel.netns import inside
from kubypass_lab.box.patience import ANSWER_S
from tests.agent.far import BACKEND, NODE, NODE_PORT

CLIENT = "192.168.1.40"


def talk(client: socket.socket, server: socket.socket, words: bytes) -> None:
    """Sends something in both directions of an open connection."""
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(words)
        assert receiver.recv(100) == words


def echo(listener: socket.socket) -> None:
    """Answers every connection with what it sends, until the listener is closed."""

    def answer(made: socket.socket) -> None:
        with made, suppress(OSError):
            while words := made.recv(100):
                made.sendall(words)

    with suppress(OSError):
        while True:
            Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


class Dialler(Thread):
    """Opens connections one after another, and uses each for a while."""

    LIVES_S = 0.3

    def __init__(self, far: str) -> None:
        super().__init__()
        self.far, self.over = far, Event()
        self.opened = 0
        self.failures: list[str] = []

    def run(self) -> None:
        kept: list[tuple[float, socket.socket]] = []
        with inside(self.far):
            while not self.over.wait(0.002):
                kept.append((time.monotonic() + self.LIVES_S, self.dial()))
                kept = [each for each in kept if self.goes_on(*each)]
        for _, client in kept:
            client.close()

    def dial(self) -> socket.socket:
        client = socket.socket()
        client.settimeout(ANSWER_S)
        client.bind((CLIENT, 0))
        client.connect((NODE, NODE_PORT))
        self.opened += 1
        return client

    def goes_on(self, until_s: float, client: socket.socket) -> bool:
        if time.monotonic() < until_s:
            try:
                client.sendall(b"more")
                assert client.recv(100) == b"more"
            except OSError as error:
                self.failures.append(str(error))
            else:
                return True
        client.close()
        return False


@contextmanager
def echo_server(far: str) -> Iterator[None]:
    """Runs the backend, which answers every connection with what it sends."""
    with inside(far):
        listener = socket.create_server((BACKEND, 8080), backlog=1000)
    Thread(target=echo, args=(listener,), daemon=True).start()
    with listener:
        yield


@contextmanager
def three_diallers(far: str) -> Iterator[list[Dialler]]:
    """Diallers that the caller starts, with the backend that they talk to; ended and joined at the end."""
    diallers = [Dialler(far) for _ in range(3)]
    with echo_server(far):
        try:
            yield diallers
        finally:
            for dialler in diallers:
                dialler.over.set()
                if dialler.ident is not None:  # started
                    dialler.join(10)
