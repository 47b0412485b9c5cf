# SPDX-License-Identifier: Apache-2.0
"""The program of a test pod: it identifies itself over TCP and UDP, and connects to others on request.

`/who` is open. `/TOKEN/dial`, `/TOKEN/resolve` and `/TOKEN/fetch` need a token, because anybody could otherwise use a
pod on its node's network to reach what only nodes reach. Standard library only.
"""

from __future__ import annotations

import argparse
import hmac
import http.client
import json
import os
import socket
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "KUBYPASS_TOKEN"  # noqa: S105 (the name of a variable)
NO_ANSWER = "no answer"
"""The reported reason when no answer arrives in time."""
_TIMEOUT_S = 1.0
_GIVE_UP = 2
"""The number of failures after which no further try is made."""
_FETCH_S = 20.0


def identity() -> dict[str, str]:
    """The names of this pod and its node, from the environment."""
    return {"pod": os.environ.get("POD_NAME", ""), "node": os.environ.get("NODE_NAME", "")}


def plain(address: str) -> str:
    """The address, with an IPv4-mapped one as IPv4."""
    return address.removeprefix("::ffff:")


def dial(protocol: str, host: str, port: int, tries: int) -> dict[str, Any]:
    """Open new connections, or send datagrams from new ports.

    Returns who answered, and why other tries failed.
    """
    ask = {"tcp": _ask_tcp, "udp": _ask_udp, "connect": _connect}[protocol]
    answers: list[dict[str, Any]] = []
    failures: list[str] = []
    for _ in range(tries):
        started = time.perf_counter()
        try:
            answer = ask(host, port)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(_reason(error))
            if len(failures) >= _GIVE_UP:
                break
        else:
            answers.append({**answer, "ms": 1000 * (time.perf_counter() - started)})
    return {"answers": answers, "failures": failures}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()


def _ask_tcp(host: str, port: int) -> dict[str, Any]:
    with closing(http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)) as connection:
        connection.request("GET", "/who")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


def _ask_udp(host: str, port: int) -> dict[str, Any]:
    family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as asker:
        asker.settimeout(_TIMEOUT_S)
        asker.connect(where)
        asker.send(b"who")
        found: dict[str, Any] = json.loads(asker.recv(4096))
        return found


def _connect(host: str, port: int) -> dict[str, Any]:
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        return {"peer": plain(connection.getpeername()[0])}


def resolve(name: str) -> dict[str, Any]:
    """The addresses of a name."""
    try:
        found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return {"addresses": [], "failures": [_reason(error)]}
    return {"addresses": sorted({str(each[4][0]) for each in found}), "failures": []}


def fetch(host: str, port: int, path: str) -> tuple[int, bytes]:
    """GET from another pod of this node, or from a port of the node. The status is 502 if there is no answer."""
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=_FETCH_S)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return http.client.BAD_GATEWAY, _reason(error).encode()


class _Handler(BaseHTTPRequestHandler):
    timeout = 30

    def do_GET(self) -> None:
        """Answer one request."""
        url = urlsplit(self.path)
        words = dict(parse_qsl(url.query))
        token, _, command = url.path.strip("/").rpartition("/")
        try:
            if url.path == "/who":
                self._send_json({**identity(), "client": plain(self.client_address[0])})
            elif not hmac.compare_digest(
                token.encode(), os.environ.get(TOKEN, "").encode() or b"?"
            ):
                self._send(403, b"expected /who, or a token\n")
            else:
                self._answer(command, words)
        except (KeyError, ValueError) as error:
            self._send(400, f"{self.path}: {error!r}\n".encode())

    def _answer(self, command: str, words: dict[str, str]) -> None:
        if command == "dial":
            where = (words["protocol"], words["host"], int(words["port"]), int(words["tries"]))
            self._send_json(dial(*where))
        elif command == "resolve":
            self._send_json(resolve(words["name"]))
        elif command == "fetch":
            self._send(*fetch(words["host"], int(words["port"]), words["path"]))
        else:
            self._send(404, b"expected dial, resolve or fetch\n")

    def _send_json(self, found: dict[str, Any]) -> None:
        self._send(200, json.dumps(found).encode())

    def _send(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind to both families."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _serve_udp(port: int) -> None:
    """Answer datagrams, from the address to which they were sent.

    The kernel chooses that address only for a connected socket.
    """
    listener = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    listener.bind(("::", port))
    while True:
        _, ancillary, _, client = listener.recvmsg(4096, socket.CMSG_SPACE(20))
        body = json.dumps({**identity(), "client": plain(client[0])}).encode()
        source = [each for each in ancillary if each[1] == socket.IPV6_PKTINFO]
        fixed = [(level, kind, value[:16] + bytes(4)) for level, kind, value in source]
        try:
            listener.sendmsg([body], fixed, 0, client)
        except OSError:
            continue  # the client is gone


def main() -> None:
    """Serve until the pod ends."""
    parser = argparse.ArgumentParser(description="Identifies itself, and connects to others.")
    parser.add_argument("--port", type=int, required=True, help="TCP and UDP")
    port = parser.parse_args().port
    threading.Thread(target=_serve_udp, args=(port,), daemon=True).start()
    _Server(("::", port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
