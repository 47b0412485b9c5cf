# SPDX-License-Identifier: Apache-2.0
"""HTTP on any number of TCP ports, which come and go: GET and HEAD, a connection for each request.

One thread waits for connections on all of them; each request is answered in a thread of its own, so that health is
told while the agent's loop is busy. These ports are open to the network: silent clients are cut off, and a port
answers so many at a time and no more.
"""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from kubypass.api.health_pages import Answer, text_answer
from kubypass.errors import KubypassError

Place = tuple[str, int]
"""Address (not a name) and port."""
Page = Callable[[str], Answer]
"""From the path of a request to its answer; called in any thread."""

_SILENCE_S = 5.0
_AT_ONCE = 64


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE_S

    def do_GET(self) -> None:
        """Answers one request."""
        answer = self._answer()
        self._send_head(answer)
        self.wfile.write(answer.body.encode())

    def do_HEAD(self) -> None:
        """The same without its body."""
        self._send_head(self._answer())

    def _answer(self) -> Answer:
        try:
            return self.server.page(self.path.partition("?")[0])
        except KubypassError as error:
            return text_answer(f"{error}\n", 503)

    def _send_head(self, answer: Answer) -> None:
        self.send_response_only(answer.code)
        length = str(len(answer.body.encode()))
        for name, value in (
            ("Content-Type", answer.kind),
            *answer.headers,
            ("Date", self.date_time_string()),
            ("Content-Length", length),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Requests are no events for operators."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = _AT_ONCE
    timeout = 0

    def __init__(self, place: Place, page: Page) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.page = page
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__(place, _Handler)
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        """An IPv6 address means IPv6 only: IPv4 has a server of its own."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()

    def verify_request(self, *_: object) -> bool:
        """Whether there is room for one more; if not, it is closed unanswered."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Makes room afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        """A client that went away is nothing to tell."""


class Listeners:
    """The ports that are open. `sync` and `stop` are for one thread."""

    def __init__(self) -> None:
        self._servers: dict[Place, _Server] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def sync(self, wanted: Mapping[Place, Page]) -> dict[Place, OSError]:
        """Opens and closes until these ports are open; returns those that cannot be, and why."""
        failed = {}
        with self._lock:
            for place in self._servers.keys() - wanted.keys():
                self._close(place)
            for place, page in wanted.items():
                try:
                    self._open(place, page)
                except OSError as error:
                    failed[place] = error
        return failed

    def _open(self, place: Place, page: Page) -> None:
        if place in self._servers:
            self._servers[place].page = page
            return
        server = self._servers[place] = _Server(place, page)
        self._selector.register(server.socket, selectors.EVENT_READ, server)

    def _close(self, place: Place) -> None:
        server = self._servers.pop(place)
        self._selector.unregister(server.socket)
        server.server_close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with self._lock:
                    if key.data in self._servers.values():
                        key.data.handle_request()

    def stop(self) -> None:
        """Closes every port, and ends the thread."""
        self.sync({})
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._selector.close()
