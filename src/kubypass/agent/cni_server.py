# SPDX-License-Identifier: Apache-2.0
"""Serves the CNI plugin on a socket (`<run>/cni.sock`, root only). The agent's loop calls it; nothing here blocks.

The protocol is described at the top of cni/kubypass-cni.c.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

_MOST_BYTES = 2 << 20
_MOST_CLIENTS = 256
_PATIENCE_S = 30.0
_SHARE_S = 0.1
"""After this time, the rest of a burst of requests waits for the loop's next round."""

Answer = Callable[[bytes, int | None], bytes]
"""Makes the answer to a request, and to the network namespace that came with it."""


class _Client:
    """A connection whose request is not complete yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.since = time.monotonic()
        self._data = bytearray()
        self._netns_fds: list[int] = []

    def read(self) -> bytes | None:
        """The request once it is complete; OSError where the client has gone or sends too much."""
        while True:
            try:
                data, netns_fds, _, _ = socket.recv_fds(self.connection, 1 << 16, 4)
            except BlockingIOError:
                return None
            self._netns_fds += netns_fds
            if not data:
                return bytes(self._data)
            self._data += data
            if len(self._data) > _MOST_BYTES:
                raise OSError("too large")

    @property
    def netns_fd(self) -> int | None:
        """A descriptor of the pod's network namespace."""
        return self._netns_fds[0] if self._netns_fds else None

    def close(self) -> None:
        """Closes the connection, answered or not."""
        for netns_fd in self._netns_fds:
            os.close(netns_fd)
        self.connection.close()


class CniServer:
    """The server. `fd` is readable when `serve` has something to do."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._answer = answer
        self._selector = selectors.EpollSelector()
        self._clients: set[_Client] = set()
        self.fd = self._selector.fileno()
        self._path, self._file = path, (0, 0)
        self._listener: socket.socket | None = None
        self.listen()

    def listen(self) -> None:
        """Makes the socket's file, and takes requests there and nowhere else."""
        if self._listener is not None:
            self._selector.unregister(self._listener.fileno())
            self._listener.close()
            self._listener = None
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
        listener.setblocking(False)
        listener.listen(_MOST_CLIENTS)
        found = os.stat(self._path)
        self._file, self._listener = (found.st_dev, found.st_ino), listener
        self.add(listener.fileno(), self._accept)

    @property
    def is_lost(self) -> bool:
        """Whether somebody has removed or replaced the socket's file: no plugin would reach us."""
        try:
            found = os.stat(self._path)
        except OSError:
            return True
        return self._listener is None or (found.st_dev, found.st_ino) != self._file

    def add(self, fd: int, ready: Callable[[], None]) -> None:
        """Calls `ready` from `serve` whenever `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def serve(self) -> None:
        """Serves what has come, but for no longer than the loop can spare."""
        until = time.monotonic() + _SHARE_S
        while found := self._selector.select(0):
            for key, _ in found:
                key.data()
                if time.monotonic() > until:
                    return

    def _accept(self) -> None:
        if self._listener is None:
            return
        with suppress(OSError):  # no client is left, or it went away, or descriptors are short
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                client = _Client(connection)
                self._clients.add(client)
                self.add(connection.fileno(), partial(self._read, client))
                self._forget_idle()

    def _forget_idle(self) -> None:
        """Closes clients that never complete their request, so that descriptors do not run out."""
        oldest = sorted(self._clients, key=lambda client: client.since)
        surplus = len(oldest) - _MOST_CLIENTS
        limit = time.monotonic() - _PATIENCE_S
        for number, client in enumerate(oldest):
            if number < surplus or client.since < limit:
                self._end(client)

    def _read(self, client: _Client) -> None:
        if client not in self._clients:
            return  # the client was closed in this round
        try:
            request = client.read()
            if request is None:
                return
            client.connection.sendall(self._answer(request, client.netns_fd))
        except OSError:  # the client went away or does not read its answer: it will ask again
            pass
        self._end(client)

    def _end(self, client: _Client) -> None:
        if client not in self._clients:
            return
        self._selector.unregister(client.connection.fileno())
        self._clients.discard(client)
        client.close()
