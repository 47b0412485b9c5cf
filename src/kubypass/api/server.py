# SPDX-License-Identifier: Apache-2.0
"""One HTTP server for the agent's unix socket and its TCP ports: GET and HEAD, one request a connection.

One thread has all sockets and never waits for one of them, nor for the agent's loop: it answers probes itself, and
hands pages that take long to a few threads. The ports are open to the network, so each step of a connection has a
deadline, and where a limit is reached the oldest connection of the greediest client gives way to the new one.
"""

from __future__ import annotations

import errno
import queue
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain

from kubypass.api.answer import text_answer
from kubypass.api.connection import Connection, State
from kubypass.api.connections import Connections
from kubypass.api.limits import Limits, default_limits
from kubypass.api.listener import ListenAddress, Listener, TcpAddress
from kubypass.api.page_makers import PageMakers
from kubypass.api.request import Request, write_answer
from kubypass.api.routes import Routes

__all__ = ["HttpServer", "ListenAddress", "TcpAddress"]

_TICK_S = 0.2
"""Between looks at deadlines."""
_ACCEPTED_AT_ONCE = 64
"""Connections that a listener takes before others have their turn."""
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class HttpServer:
    """The open listeners. Any thread calls `open`, `close` and `stop`."""

    def __init__(
        self,
        limits: Limits | None = None,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """`failed` is told of an exception that is a fault of the program; any thread calls it."""
        self._limits = limits or default_limits()
        self._failed = failed
        self._listeners: dict[ListenAddress, Listener] = {}
        self._of_network = Connections(self._limits)
        self._of_root = Connections(self._limits)
        self._makers = {
            of_root: PageMakers(self._limits.makers, self._make, self._made)
            for of_root in (False, True)
        }
        self._answers: queue.SimpleQueue[tuple[Sequence[Connection], bytes]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._paused: list[Listener] = []
        self._next_tick = 0.0
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def open(self, address: ListenAddress, routes: Routes) -> None:
        """Listens on the address, or changes the routes of an address that is open; OSError where that fails.

        A unix socket whose file somebody removed is opened again.
        """
        with self._lock:
            listener = self._listeners.get(address)
            if listener is not None and not listener.is_lost:
                listener.routes = routes
                return
            if listener is not None:
                self._close(listener)
            listener = Listener.open(address, routes)
            self._listeners[address] = listener
            self._selector.register(listener.socket, selectors.EVENT_READ, listener)

    def close(self, address: ListenAddress) -> None:
        """Listens on the address no longer. Requests that have come are answered."""
        with self._lock:
            if address in self._listeners:
                self._close(self._listeners[address])

    def is_lost(self, address: ListenAddress) -> bool:
        """Whether somebody has removed the file of a unix socket that is open; `open` makes it again."""
        listener = self._listeners.get(address)
        return listener is not None and listener.is_lost

    def _close(self, listener: Listener) -> None:
        self._listeners.pop(listener.address)
        self._selector.unregister(listener.socket)
        listener.close()

    @property
    def ended(self) -> Counter[str]:
        """The number of TCP connections that the server ended early, by reason: `deadline`, `limit`."""
        return self._of_network.ended.copy()

    def stop(self) -> None:
        """Closes everything, and ends the threads; one that makes a page is not waited for."""
        for address in list(self._listeners):
            self.close(address)
        self._stopped = True
        self._wake()
        self._thread.join()
        for makers in self._makers.values():
            makers.stop()
        for connection in chain(self._of_network, self._of_root):
            connection.close()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _wake(self) -> None:
        with suppress(OSError):  # it has been told already, or has stopped
            self._waker.send(b"\0")

    # From here on: the server's own thread.

    def _serve(self) -> None:
        while not self._stopped:
            idle = not (self._of_network or self._of_root or self._paused)
            events = self._selector.select(None if idle else _TICK_S)
            now = time.monotonic()
            with self._lock:
                # what has come is answered before a new connection can make it give way
                for key, _ in sorted(events, key=lambda event: isinstance(event[0].data, Listener)):
                    self._guarded_step(key.data, now)
                self._take_answers(now)
                if now >= self._next_tick:
                    self._next_tick = now + _TICK_S
                    self._end_late(now)

    def _guarded_step(self, ready: Connection | Listener | None, now: float) -> None:
        try:
            self._step(ready, now)
        except Exception as error:  # noqa: BLE001  # a fault met by one connection ends no other
            self._failed(error)
            if isinstance(ready, Connection) and ready.state is not State.ENDED:
                self._forget(ready)

    def _step(self, ready: Connection | Listener | None, now: float) -> None:
        if isinstance(ready, Listener):
            if self._listeners.get(ready.address) is ready:
                self._accept(ready, now)
        elif ready is None:
            self._woken.recv(4096)
        elif ready.state is not State.ENDED:
            before = ready.state
            if before is State.READER:
                ready.write(now)
            else:
                ready.read(now)
            self._follow(ready, before, now)

    def _accept(self, listener: Listener, now: float) -> None:
        connections = self._connections(listener.socket.family)
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, client = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _NO_FILES:
                    continue  # the client has gone
                if not self._end_first(connections):
                    self._pause(listener)
                return
            while (first := connections.room_for(client)) is not None:
                self._end(first, "limit")
            made = Connection(accepted, client, listener.routes, self._limits, now)
            connections.add(made)
            self._selector.register(accepted, selectors.EVENT_READ, made)
            self._step(made, now)

    def _end_first(self, connections: Connections) -> bool:
        first = connections.first_to_go()
        if first is not None:
            self._end(first, "limit")
        return first is not None

    def _pause(self, listener: Listener) -> None:
        """Leaves a listener alone until the next tick: this process has no file left for a connection."""
        self._selector.unregister(listener.socket)
        self._paused.append(listener)

    def _follow(self, connection: Connection, before: State, now: float) -> None:
        """Does what the connection's new state asks for."""
        state = connection.state
        if state is before:
            return
        connections = self._connections(connection.client.kind)
        if state is State.ENDED:
            self._forget(connection)
            return
        connections.moved(connection)
        if state is State.PAGE:
            if connection.routes.quick:
                connection.send(self._make(connection), now)
                self._follow(connection, State.PAGE, now)
            else:
                self._selector.unregister(connection.socket)
                self._makers[connection.client.kind == socket.AF_UNIX].submit(connection)
        else:
            self._listen_to(connection)
            if connection.large:
                self._limit_large(connections, connection)

    def _listen_to(self, connection: Connection) -> None:
        reader = connection.state is State.READER
        events = selectors.EVENT_WRITE if reader else selectors.EVENT_READ
        if connection.socket in self._selector.get_map():
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.register(connection.socket, events, connection)

    def _limit_large(self, connections: Connections, newest: Connection) -> None:
        large = [one for one in connections if one.large and one is not newest]
        if len(large) >= self._limits.large_at_once:
            self._end(min(large, key=lambda one: one.deadline), "limit")

    def _take_answers(self, now: float) -> None:
        """Sends the answers that the page makers have made."""
        while not self._answers.empty():
            asked, answer = self._answers.get_nowait()
            for connection in asked:
                if connection.state is State.PAGE:
                    connection.send(answer, now)
                    self._follow(connection, State.PAGE, now)

    def _end_late(self, now: float) -> None:
        for connection in chain(self._of_network, self._of_root):
            if connection.deadline <= now:
                self._end(connection, "deadline")
        for listener in self._paused:
            if self._listeners.get(listener.address) is listener:
                self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        self._paused.clear()

    def _end(self, connection: Connection, why: str) -> None:
        if connection.state is not State.CLIENT:  # that one has its answer
            self._connections(connection.client.kind).ended[why] += 1
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if connection.socket in self._selector.get_map():
            self._selector.unregister(connection.socket)
        connection.close()
        self._connections(connection.client.kind).remove(connection)

    def _connections(self, kind: int) -> Connections:
        return self._of_root if kind == socket.AF_UNIX else self._of_network

    # Any thread:

    def _make(self, connection: Connection) -> bytes:
        """The answer to the connection's request."""
        request = connection.request or Request("")
        try:
            answer = connection.routes.answer(request.path)
        except Exception as error:  # noqa: BLE001  # a fault in one page ends neither the thread nor others' answers
            self._failed(error)
            answer = text_answer("this page failed: see the agent's log\n", 500)
        return write_answer(answer, head_only=request.head_only)

    def _made(self, asked: Sequence[Connection], answer: bytes) -> None:
        self._answers.put((asked, answer))
        self._wake()
