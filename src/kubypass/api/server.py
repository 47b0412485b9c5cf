# SPDX-License-Identifier: Apache-2.0
"""One HTTP server for the agent's unix socket and its TCP ports: GET and HEAD, one request a connection.

One thread waits for connections on all listeners. Each request is answered in a thread of its own, so that probes are
answered while the agent's loop is busy. The TCP ports are open to the network: silent clients are cut off, and each
listener answers a limited number of requests at once.
"""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kubypass.api.answer import Answer
from kubypass.api.routes import Routes

TcpAddress = tuple[str, int]
"""An IP address (not a name) and a port."""
ListenAddress = TcpAddress | Path
"""A TCP port, or the path of a unix socket that only root may open."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener grants its clients."""

    silence_s: float = 5.0
    """How long a client may keep the server waiting for its next bytes."""
    at_once: int = 64
    """How many requests are answered at once. A connection beyond them is closed without an answer."""


LIMITS = Limits()


class _RequestHandler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Limits how long the client may be silent."""
        super().setup()
        self.connection.settimeout(self.server.limits.silence_s)

    def do_GET(self) -> None:
        """Answers one request."""
        answer = self._answer()
        self._send_head(answer)
        self.wfile.write(answer.body.encode())

    def do_HEAD(self) -> None:
        """Answers one request without the body."""
        self._send_head(self._answer())

    def _answer(self) -> Answer:
        return self.server.routes.answer(self.path.partition("?")[0])

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
        """Logs nothing: requests are no events for operators."""


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """One open address; socketserver's TCPServer serves unix sockets as well."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    timeout = 0

    def __init__(self, address: ListenAddress, routes: Routes, limits: Limits) -> None:
        self.routes = routes
        self.limits = limits
        self.request_queue_size = limits.at_once
        self._free = threading.BoundedSemaphore(limits.at_once)
        self._path = address if isinstance(address, Path) else None
        if isinstance(address, Path):
            self.address_family = socket.AF_UNIX
            address.unlink(missing_ok=True)
        else:
            self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _RequestHandler)  # type: ignore[arg-type]  # a path is one, too
        if self._path:
            self._path.chmod(0o600)
        self.socket.setblocking(False)

    def server_bind(self) -> None:
        """Binds the socket. An IPv6 address takes IPv6 only: IPv4 has a listener of its own."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self._path:
            self.socket.bind(str(self._path))
        else:
            super().server_bind()

    def server_close(self) -> None:
        """Closes the socket, and removes its file."""
        super().server_close()
        if self._path:
            self._path.unlink(missing_ok=True)

    def verify_request(self, *_: object) -> bool:
        """Whether one more request may be answered; if not, the connection is closed."""
        return self._free.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answers in a thread of its own, then makes room for the next request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: object) -> None:
        """Ignores a client that went away."""


class HttpServer:
    """The open listeners. One thread calls `open`, `close` and `stop`."""

    def __init__(self) -> None:
        self._listeners: dict[ListenAddress, _Listener] = {}
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def open(self, address: ListenAddress, routes: Routes) -> None:
        """Listens on the address, or changes the routes of an address that is open; OSError where that fails."""
        with self._lock:
            if address in self._listeners:
                self._listeners[address].routes = routes
                return
            listener = _Listener(address, routes, LIMITS)
            self._listeners[address] = listener
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)

    def close(self, address: ListenAddress) -> None:
        """Listens on the address no longer."""
        with self._lock:
            listener = self._listeners.pop(address, None)
            if listener is not None:
                self._selector.unregister(listener.socket)
                listener.server_close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                with self._lock:
                    if key.data in self._listeners.values():
                        key.data.handle_request()

    def stop(self) -> None:
        """Closes every listener, and ends the thread."""
        for address in list(self._listeners):
            self.close(address)
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._selector.close()
