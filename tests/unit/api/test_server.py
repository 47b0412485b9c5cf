# SPDX-License-Identifier: Apache-2.0
"""One server, several listeners: each answers from its own route table."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from kubypass.api.answer import Answer, text_answer
from kubypass.api.client import NotRunning, get
from kubypass.api.routes import Routes
from kubypass.api.server import HttpServer
from kubypass.errors import KubypassError
from kubypass_lab.box.patience import ANSWER_S


@contextmanager
def running() -> Iterator[HttpServer]:
    made = HttpServer()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with running() as made:
        yield made


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return taken.getsockname()[1]


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def says(text: str) -> Routes:
    return Routes({"/page": lambda: text_answer(text)})


def test_a_socket_and_ports_answer_from_their_own_routes(
    server: HttpServer, tmp_path: Path
) -> None:
    path, first, second = tmp_path / "agent.sock", free_port(), free_port()
    server.open(path, says("socket"))
    server.open(("127.0.0.1", first), says("first"))
    server.open(("127.0.0.1", second), says("second"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert get(path, "/page") == (200, b"socket")
    assert ask(first, "/page?query") == (200, "first")
    assert ask(second, "/page") == (200, "second")
    assert ask(second, "/page", "HEAD") == (200, "")
    assert ask(second, "/else")[0] == 404
    server.open(("127.0.0.1", first), says("changed"))
    assert ask(first, "/page") == (200, "changed")
    server.close(("127.0.0.1", second))
    with pytest.raises(ConnectionRefusedError):
        ask(second, "/page")
    assert ask(first, "/page") == (200, "changed")


def test_a_stopped_server_removes_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with running() as server:
        server.open(path, says("socket"))
    assert not path.exists()
    with pytest.raises(NotRunning):
        get(path, "/page")


def test_a_port_that_is_taken_is_an_error_and_the_others_go_on(server: HttpServer) -> None:
    port = free_port()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with pytest.raises(OSError, match="in use"):
            server.open(("127.0.0.1", taken.getsockname()[1]), says("never"))
        server.open(("127.0.0.1", port), says("here"))
    assert ask(port, "/page") == (200, "here")


def test_a_page_that_fails_says_why(server: HttpServer) -> None:
    def fails() -> Answer:
        raise KubypassError("no map", "start the agent")

    port = free_port()
    server.open(("127.0.0.1", port), Routes({"/page": fails}))
    assert ask(port, "/page") == (503, "no map; start the agent\n")
