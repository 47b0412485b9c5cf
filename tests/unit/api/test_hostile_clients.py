# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, silent, many or malformed keep nobody else from the server. Real sockets throughout."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kubypass.api.answer import Answer, text_answer
from kubypass.api.limits import Limits
from kubypass.api.routes import Routes
from kubypass.api.server import HttpServer
from kubypass_lab.box.patience import DEADLINE_S

PROBE = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"
PATIENT = Limits(request_s=600, page_s=600, answer_s=600)
"""Deadlines that no test reaches: what gives way does so because of a limit."""


@contextmanager
def serving(routes: Routes | None = None, limits: Limits | None = None) -> Iterator[int]:
    """A server's port."""
    server = HttpServer(limits)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    try:
        server.open(("127.0.0.1", port), routes or Routes({"/page": lambda: text_answer("here")}))
        yield port
    finally:
        server.stop()


def dial(port: int, source: str = "127.0.0.1", timeout: float = DEADLINE_S) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout, source_address=(source, 0))


def read_all(client: socket.socket) -> bytes:
    """Everything until the server's end."""
    found = bytearray()
    with suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            found += data
    return bytes(found)


def probe(
    port: int, source: str = "127.0.0.1", sent: bytes = PROBE, timeout: float = DEADLINE_S
) -> bytes:
    with dial(port, source, timeout) as client:
        client.sendall(sent)
        return read_all(client)


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.01)


@contextmanager
def slow_clients(port: int, sources: list[str]) -> Iterator[list[socket.socket]]:
    """Clients that send a byte of a request now and then, for as long as the block lasts."""
    with ExitStack() as opened:
        clients = [opened.enter_context(dial(port, source)) for source in sources]
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.2):
                for client in clients:
                    try:
                        client.send(b"G")
                    except OSError:
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield clients
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
def test_probes_beside_two_hundred_slow_clients(source: str) -> None:
    """The probes come from the slow clients' own address, or from another."""
    with serving() as port, slow_clients(port, ["127.0.0.1"] * 200):
        before = threading.active_count()
        for _ in range(80):
            assert probe(port, source, timeout=20).startswith(b"HTTP/1.1 200 OK")
        assert threading.active_count() <= before


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
def test_the_limit_is_reached_by_one_client(source: str) -> None:
    limits = replace(PATIENT, at_once=32, at_once_from_one=16)
    with serving(limits=limits) as port, slow_clients(port, ["127.0.0.1"] * 100):
        for _ in range(80):
            assert probe(port, source).startswith(b"HTTP/1.1 200 OK")


def test_the_limit_is_reached_by_many_clients() -> None:
    limits = replace(PATIENT, at_once=32, at_once_from_one=16)
    sources = [f"127.0.1.{n}" for n in range(1, 101)]
    with serving(limits=limits) as port, slow_clients(port, sources):
        for _ in range(80):
            assert probe(port).startswith(b"HTTP/1.1 200 OK")


def test_who_opens_most_gives_way_first() -> None:
    limits = replace(PATIENT, at_once=8, at_once_from_one=6)
    greedy = ["127.0.0.1"] * 20
    with (
        serving(limits=limits) as port,
        dial(port, "127.0.0.7") as honest,
        slow_clients(port, greedy),
    ):
        honest.sendall(PROBE)
        assert read_all(honest).startswith(b"HTTP/1.1 200 OK"), "it was the oldest of all"


def test_a_byte_now_and_then_does_not_move_the_deadline() -> None:
    with serving(limits=Limits(request_s=0.5)) as port, slow_clients(port, ["127.0.0.1"]) as slow:
        assert read_all(slow[0]) == b""


def test_slow_readers_of_a_large_answer() -> None:
    size = 32 << 20
    routes = Routes({"/page": lambda: text_answer("x" * size)}, quick=False)
    limits = replace(PATIENT, large_at_once=2)
    with serving(routes, limits) as port, ExitStack() as opened:
        readers = [opened.enter_context(dial(port)) for _ in range(6)]
        for reader in readers:
            reader.sendall(PROBE)
            assert reader.recv(1) == b"H", "its answer is being sent"
        assert len(probe(port)) > size, "a reader that reads has it whole"
        found = [len(read_all(reader)) for reader in readers]
        assert sum(length > size - 1 for length in found) <= 2, "the oldest gave way"


def test_a_reader_that_does_not_read_is_cut_off() -> None:
    size = 32 << 20
    routes = Routes({"/page": lambda: text_answer("x" * size)}, quick=False)
    ended = HttpServer(Limits(answer_s=0.3))
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    try:
        ended.open(("127.0.0.1", port), routes)
        with dial(port) as reader:
            reader.sendall(PROBE)
            wait(lambda: ended.ended["deadline"], "the deadline of the answer")
            assert len(read_all(reader)) < size
    finally:
        ended.stop()


def test_nothing_is_left_of_clients_that_have_gone() -> None:
    with serving() as port:
        probe(port)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with slow_clients(port, ["127.0.0.1"] * 50):
                pass
        wait(lambda: len(os.listdir("/proc/self/fd")) <= before, "every socket to be closed")


def test_no_file_is_left_for_a_connection() -> None:
    """EMFILE: the oldest connection gives way, and the server does not spin."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving(limits=PATIENT) as port, ExitStack() as opened:
        clients = [opened.enter_context(socket.socket()) for _ in range(60)]
        last = opened.enter_context(socket.socket())
        for client in [*clients, last]:
            client.settimeout(DEADLINE_S)
        with open("/dev/null") as lowest_free:
            limit = max(map(int, os.listdir("/proc/self/fd"))) + 8
            assert lowest_free.fileno() < limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            for client in clients:
                client.connect(("127.0.0.1", port))
            last.connect(("127.0.0.1", port))
            last.sendall(PROBE)
            assert read_all(last).startswith(b"HTTP/1.1 200 OK")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def unread(port: int) -> int:
    """Connections to the port that the server has not accepted, or has not read from."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return sum(not row[4].endswith(":00000000") or row[9] == "0" for row in here)


def test_requests_for_one_slow_page_share_an_answer() -> None:
    made = []
    go = threading.Event()

    def page() -> Answer:
        made.append(1)
        go.wait(DEADLINE_S)
        return text_answer("late")

    with serving(Routes({"/page": page}, quick=False)) as port, ExitStack() as opened:
        clients = [opened.enter_context(dial(port)) for _ in range(50)]
        for client in clients:
            client.sendall(PROBE)
        wait(lambda: made and not unread(port), "a thread to make the page, and all requests read")
        assert probe(port, sent=b"\r\nrubbish\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        go.set()
        assert all(read_all(client).endswith(b"late") for client in clients)
        assert len(made) <= Limits().makers + 1


def test_a_page_with_a_fault_is_told_and_the_next_is_answered() -> None:
    told: list[Exception] = []
    server = HttpServer(failed=told.append)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    try:
        for quick in (True, False):
            pages = {"/page": lambda: text_answer("here"), "/bad": lambda: text_answer(str(1 // 0))}
            server.open(("127.0.0.1", port), Routes(pages, quick=quick))
            assert probe(port, sent=b"GET /bad HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500 ")
            assert isinstance(told.pop(), ZeroDivisionError)
            assert probe(port).startswith(b"HTTP/1.1 200 ")
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (PROBE, 200),
        (PROBE * 3, 200),
        (b"GET /page?query HTTP/1.0\n\n", 200),
        (b"GET http://node:10256/page HTTP/1.1\r\n\r\n", 200),
        (b"GET /page HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" + b"b" * 99999, 200),
        (b"GET /page HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 200),
        (b"GET /page HTTP/1.1\r\n" + b"A: b\r\n" * 9000, 431),
        (b"G" * 100_000, 431),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET /page\r\n\r\n", 400),
        (b"GET /page HTTP/2.0\r\n\r\n", 505),
        (b"POST /page HTTP/1.1\r\n\r\n", 405),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 404),
    ],
)
def test_requests(sent: bytes, code: int) -> None:
    """Each has one answer, and an end."""
    with serving() as port, dial(port) as client:
        with suppress(OSError):  # the server may end before it has read all
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        found = read_all(client)
        assert found.startswith(b"HTTP/1.1 %d " % code), found
        assert found.count(b"HTTP/1.1 ") == 1
