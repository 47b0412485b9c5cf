# SPDX-License-Identifier: Apache-2.0
"""Asks an agent over its unix socket. It imports the standard library only, so that commands start fast.

Whether the agent answers at all is known within a second: `/healthz` costs it nothing. Another answer may take longer.
"""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from kubypass.errors import KubypassError

_ALIVE_S = 1.0
"""How long an agent may take for the answer that costs nothing."""
_TIMEOUT_S = 10.0
_KEPT = "traffic goes on as it was left"


class NotRunning(KubypassError):
    """No agent answers on the socket: there is none, or it hangs."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("agent", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connects to the unix socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, request: str) -> tuple[int, bytes]:
    """Sends GET `request`; returns the status code and the body. NotRunning where no agent answers."""
    _get(path, "/healthz", _ALIVE_S)
    return _get(path, request, _TIMEOUT_S)


def _get(path: Path, request: str, timeout_s: float) -> tuple[int, bytes]:
    connection = _Connection(path, timeout_s)
    try:
        connection.request("GET", request)
        response = connection.getresponse()
        return response.status, response.read()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(
            f"no agent answers on {path}", f"{_KEPT}; start it, or give --run"
        ) from None
    except (TimeoutError, BlockingIOError):  # a listener whose queue is full has the latter
        raise NotRunning(
            f"the agent on {path} does not answer within {timeout_s:g} s: it hangs, or this machine is too busy",
            f"{_KEPT}; see the agent's log, and restart it",
        ) from None
    except PermissionError:
        raise KubypassError(f"the agent on {path} answers only root", "run this as root") from None
    except (OSError, http.client.HTTPException) as error:
        raise KubypassError(
            f"the agent on {path} did not answer: {error or type(error).__name__}"
        ) from None
    finally:
        connection.close()
