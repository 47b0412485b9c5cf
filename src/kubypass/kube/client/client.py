# SPDX-License-Identifier: Apache-2.0
"""The API servers of one cluster, one at a time: the next when one fails. Used by several threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from kubypass.errors import KubeError
from kubypass.kube.client.access import Access, ApiAddress
from kubypass.kube.client.connection import Connection, tls_context
from kubypass.kube.client.failures import Refused, Unreachable

_STREAMING_SINCE: Final = (1, 27)


class Version(msgspec.Struct, gc=False, rename="camel"):
    """What `/version` says."""

    major: str = ""
    minor: str = ""
    git_version: str = ""
    platform: str = ""

    @property
    def has_streaming_lists(self) -> bool:
        """Whether `sendInitialEvents` is known at all; it may be switched off even so."""
        digits = [text.rstrip("+") for text in (self.major, self.minor)]
        return all(map(str.isdigit, digits)) and tuple(map(int, digits)) >= _STREAMING_SINCE

    def __str__(self) -> str:
        return f"{self.major}.{self.minor} ({self.git_version}) [{self.platform}]"


class Client:
    """Where to connect, and the connections that are open."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.version: Version | None = None
        """Of the server that answered last."""
        self.failovers = 0
        self._context = tls_context(access.trust, access.origin)
        self._lock = threading.Lock()
        self._current = 0
        self._failed: set[ApiAddress] = set()
        self._open: set[Connection] = set()
        self._closed = False

    @property
    def server(self) -> ApiAddress:
        """The one that is asked now."""
        return self.access.servers[self._current]

    def use(self, access: Access) -> None:
        """Other addresses; connections that are open stay."""
        with self._lock:
            server = self.server
            self.access = access
            known = server in access.servers
            self._current = access.servers.index(server) if known else 0
            self._failed.clear()

    def works(self) -> None:
        """A server has answered."""
        if self._failed:
            with self._lock:
                self._failed.clear()

    def fails(self, server: ApiAddress) -> bool:
        """It gave no answer; whether there is another that has not failed since one has answered."""
        with self._lock:
            self.version = None
            self._failed.add(server)
            servers = self.access.servers
            if server != self.server:
                return True
            self._current = (self._current + 1) % len(servers)
            self.failovers += len(servers) > 1
            if self._failed.issuperset(servers):
                self._failed.clear()
                return False
            return True

    def connect(self, server: ApiAddress | None = None) -> Connection:
        """A new connection, to the one that is asked now if none is named; Unreachable says why there is none."""
        made = Connection(server or self.server, self.access, self._context)
        with self._lock:
            self._open.add(made)
            closed = self._closed
        if closed:
            made.cut()
        return made

    def leave(self, connection: Connection) -> None:
        """Closes it."""
        with self._lock:
            self._open.discard(connection)
        connection.close()

    @contextmanager
    def connection(self, server: ApiAddress | None = None) -> Iterator[Connection]:
        """For the length of a block."""
        made = self.connect(server)
        try:
            yield made
        finally:
            self.leave(made)

    def learn_version(self, connection: Connection) -> Version | None:
        """What the server is; None where it does not say. Unreachable where it gives no sign of life."""
        with suppress(Refused, msgspec.DecodeError):
            body = connection.read(connection.ask("/version"))
            self.version = msgspec.json.decode(body, type=Version)
        return self.version

    def silent(self, seconds: float) -> set[ApiAddress]:
        """Servers of which nothing was heard for so long on some connection."""
        before = time.monotonic() - seconds
        with self._lock:
            return {each.server for each in self._open if each.heard < before}

    def probe(self, server: ApiAddress) -> None:
        """Asks a server for a sign of life; without one, all connections to it are cut off."""
        try:
            with self.connection(server) as made:
                self.learn_version(made)
        except Unreachable:
            self._cut(server)
            return
        except KubeError:
            pass  # it is there
        with self._lock:
            for each in self._open:
                if each.server == server:
                    each.heard = time.monotonic()

    def _cut(self, server: ApiAddress | None) -> None:
        with self._lock:
            found = [each for each in self._open if server in {None, each.server}]
        for each in found:
            each.cut()

    def close(self) -> None:
        """Cuts off everything, also what is opened later."""
        with self._lock:
            self._closed = True
        self._cut(None)
