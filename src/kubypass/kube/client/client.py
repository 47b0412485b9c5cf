# SPDX-License-Identifier: Apache-2.0
"""A client of one cluster: it uses one API server at a time, and fails over to the next. Several threads use it."""

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
    """The answer of `/version`."""

    major: str = ""
    minor: str = ""
    git_version: str = ""
    platform: str = ""

    @property
    def has_streaming_lists(self) -> bool:
        """Whether the server knows `sendInitialEvents`. The feature may still be switched off."""
        digits = [text.rstrip("+") for text in (self.major, self.minor)]
        return all(map(str.isdigit, digits)) and tuple(map(int, digits)) >= _STREAMING_SINCE

    def __str__(self) -> str:
        return f"{self.major}.{self.minor} ({self.git_version}) [{self.platform}]"


class Client:
    """The servers of a cluster, and the open connections to them."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.version: Version | None = None
        """The version of the server that answered last; None if it is not known."""
        self.failovers = 0
        self._context = tls_context(access.trust, access.origin)
        self._lock = threading.Lock()
        self._current = 0
        self._failed: set[ApiAddress] = set()
        self._open: set[Connection] = set()
        self._closed = False

    @property
    def server(self) -> ApiAddress:
        """The server in use."""
        return self.access.servers[self._current]

    def use(self, access: Access) -> None:
        """Uses other addresses from now on. Open connections stay."""
        with self._lock:
            server = self.server
            self.access = access
            known = server in access.servers
            self._current = access.servers.index(server) if known else 0
            self._failed.clear()

    def answered(self) -> None:
        """Notes that a server has answered: servers that failed before may be tried again."""
        if self._failed:
            with self._lock:
                self._failed.clear()

    def fail_over(self, server: ApiAddress) -> bool:
        """Notes that a server gave no answer, and chooses the next.

        Returns whether there is a server that has not failed since the last answer of any.
        """
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
        """A new connection, by default to the server in use. Raises Unreachable."""
        made = Connection(server or self.server, self.access, self._context)
        with self._lock:
            self._open.add(made)
            closed = self._closed
        if closed:
            made.abort()
        return made

    def release(self, connection: Connection) -> None:
        """Closes a connection."""
        with self._lock:
            self._open.discard(connection)
        connection.close()

    @contextmanager
    def connection(self, server: ApiAddress | None = None) -> Iterator[Connection]:
        """A connection for the length of a block."""
        made = self.connect(server)
        try:
            yield made
        finally:
            self.release(made)

    def learn_version(self, connection: Connection) -> Version | None:
        """Asks a server for its version; None if it does not tell. Raises Unreachable."""
        with suppress(Refused, msgspec.DecodeError):
            body = connection.read(connection.request("/version"))
            self.version = msgspec.json.decode(body, type=Version)
        return self.version

    def silent(self, seconds: float) -> set[ApiAddress]:
        """The servers of connections on which nothing came for so long."""
        before = time.monotonic() - seconds
        with self._lock:
            return {each.server for each in self._open if each.last_heard < before}

    def probe(self, server: ApiAddress) -> None:
        """Sends a request to a server. If no answer comes, all connections to it are aborted."""
        try:
            with self.connection(server) as made:
                self.learn_version(made)
        except Unreachable:
            self._abort(server)
            return
        except KubeError:
            pass  # the server has answered
        with self._lock:
            for each in self._open:
                if each.server == server:
                    each.last_heard = time.monotonic()

    def _abort(self, server: ApiAddress | None) -> None:
        with self._lock:
            found = [each for each in self._open if server in {None, each.server}]
        for each in found:
            each.abort()

    def close(self) -> None:
        """Aborts all connections, also those that are opened later."""
        with self._lock:
            self._closed = True
        self._abort(None)
