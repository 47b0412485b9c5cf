# SPDX-License-Identifier: Apache-2.0
"""HTTP on a unix socket, in a thread: GET /status, /services, /metrics, /healthz, and what `trace` asks."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from kubypass.api.metric import render
from kubypass.api.view import View
from kubypass.errors import KubypassError

_EXPLAIN = re.compile(r"/explain/([0-9]{1,10})/([12])")
_PATHS = "/status, /services, /metrics, /healthz, /names or /explain/SERVICE/LIST"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    view: View

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """A client that went away is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answers one request."""
        try:
            self._answer()
        except KubypassError as error:
            self._send(503, json.dumps({"error": str(error)}), "application/json")

    def _answer(self) -> None:
        view = self.server.view
        if self.path == "/status":
            self._send(200, json.dumps(view.status()), "application/json")
        elif self.path == "/services":
            self._send(200, json.dumps({"services": view.services()}), "application/json")
        elif self.path == "/metrics":
            self._send(200, render(view), "text/plain; version=0.0.4")
        elif self.path == "/healthz":
            healthy = view.healthy()
            text = "ok\n" if healthy else "waiting for the first complete sync\n"
            self._send(200 if healthy else 503, text, "text/plain")
        elif self.path == "/names":
            self._send(200, json.dumps(view.names()), "application/json")
        elif wanted := _EXPLAIN.fullmatch(self.path):
            found = view.explain(int(wanted[1]), int(wanted[2]))
            self._send(200 if found else 404, json.dumps(found), "application/json")
        else:
            text = json.dumps({"error": f"{self.path}: expected {_PATHS}"})
            self._send(404, text, "application/json")

    def _send(self, code: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are no events for operators."""

    def address_string(self) -> str:
        """Unix sockets have no peer address."""
        return "local"


class Server:
    """Serves a view until it is stopped."""

    def __init__(self, path: Path, view: View) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._server = _Server(str(path), _Handler)
        self._server.view = view
        path.chmod(0o600)

    def start(self) -> None:
        """Serves from now on, in a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="api", daemon=True).start()

    def stop(self) -> None:
        """Ends, and removes the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)
