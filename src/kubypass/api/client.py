# SPDX-License-Identifier: Apache-2.0
"""Asks an agent over its unix socket. It imports the standard library only, so that commands start fast."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from kubypass.errors import KubypassError

_TIMEOUT_S = 10.0


class NotRunning(KubypassError):
    """No agent answers on the socket."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connects to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def get(path: Path, request: str) -> tuple[int, bytes]:
    """Sends GET `request`; returns the status code and the body. NotRunning where no agent serves the socket."""
    connection = _Connection(path)
    try:
        connection.request("GET", request)
        response = connection.getresponse()
        return response.status, response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        hint = "traffic goes on as it was left; start it, or give --run"
        raise NotRunning(f"no agent answers on {path}", hint) from None
    except OSError as error:
        raise KubypassError(f"the agent on {path} did not answer: {error}") from None
    finally:
        connection.close()
