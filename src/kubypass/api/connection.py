# SPDX-License-Identifier: Apache-2.0
"""One connection of the HTTP server: its request comes, its answer goes, each step until a deadline.

Nothing here waits. The server calls `read` and `write` when the socket is ready, and `close` at the end.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from enum import Enum, auto

from kubypass.api.answer import Answer, text_answer
from kubypass.api.limits import Limits
from kubypass.api.request import HEAD_BYTES, Request, is_whole, parse_request, write_answer
from kubypass.api.routes import Routes

_READ_BYTES = 4096
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, 0 s. The kernel forgets what was not sent, and tells the peer by a reset."""


class State(Enum):
    """What a connection waits for."""

    REQUEST = auto()
    """The rest of the request's head."""
    PAGE = auto()
    """The answer, which a thread makes."""
    READER = auto()
    """The client, which has to read the answer."""
    CLIENT = auto()
    """The client's own end, so that no reset overtakes the answer."""
    ENDED = auto()
    """Nothing: the socket is to be closed."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whom a connection is from: what shares a limit."""

    kind: int
    """The socket's family. All clients of unix sockets are root."""
    key: bytes

    @classmethod
    def of(cls, kind: int, address: object) -> Client:
        """The client with this address, as accept(2) gives it."""
        if kind == socket.AF_UNIX or not isinstance(address, tuple):
            return cls(socket.AF_UNIX, b"")
        host = ipaddress.ip_address(str(address[0]).partition("%")[0])
        return cls(kind, host.packed[:8] if host.version == 6 else host.packed)


class Connection:
    """One accepted socket."""

    def __init__(
        self, sock: socket.socket, client: Client, routes: Routes, limits: Limits, now: float
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.client = client
        self.routes = routes
        self.request: Request | None = None
        self._limits = limits
        self._head = bytearray()
        self._rest = memoryview(b"")
        self._answered = False
        self.state = State.REQUEST
        self.deadline = now + limits.request_s

    @property
    def large(self) -> bool:
        """Whether much of the answer waits for its reader."""
        return self.state is State.READER and len(self._rest) >= self._limits.large

    def read(self, now: float) -> None:
        """Takes in what has come. Afterwards the request may be whole (`PAGE`), answered as wrong, or ended."""
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.state = State.ENDED
        elif self.state is State.REQUEST:
            self._head += data
            self._look_at_head(now)

    def _look_at_head(self, now: float) -> None:
        if is_whole(self._head):
            asked = parse_request(self._head)
        elif len(self._head) > HEAD_BYTES:
            asked = text_answer("the request's head is too long\n", 431)
        else:
            return
        self._head.clear()
        if isinstance(asked, Answer):
            self.send(write_answer(asked), now)
            return
        self.request = asked
        self._enter(State.PAGE, now + self._limits.page_s)

    def send(self, answer: bytes, now: float) -> None:
        """Sends the answer, as much as the client's socket takes at once."""
        self._rest = memoryview(answer)
        self._enter(State.READER, now + self._limits.answer_s)
        self.write(now)

    def write(self, now: float) -> None:
        """Sends more of the answer; after the last byte the client is told that this was all."""
        try:
            while self._rest:
                self._rest = self._rest[self.socket.send(self._rest) :]
            self.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self.state = State.ENDED
            return
        self._answered = True
        self._enter(State.CLIENT, now + self._limits.drain_s)

    def _enter(self, state: State, deadline: float) -> None:
        self.state, self.deadline = state, deadline

    def close(self) -> None:
        """Closes the socket. What was not sent is forgotten, and takes no memory of the kernel."""
        if not self._answered and self.socket.family != socket.AF_UNIX:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()
        self._rest = memoryview(b"")
        self.state = State.ENDED
