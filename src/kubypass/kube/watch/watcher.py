# SPDX-License-Identifier: Apache-2.0
"""A thread that follows one collection of the API, and says what it finds and how it is."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from kubypass.errors import KubeError
from kubypass.kube.client.backoff import Backoff
from kubypass.kube.client.client import Client
from kubypass.kube.client.connection import Connection
from kubypass.kube.client.failures import Refused, Unreachable
from kubypass.kube.watch.list_watch import ListWatch, Step
from kubypass.kube.watch.resources import Item, Resource

WATCH_S = 300
"""A watch is ended by the server after one to two times this, and goes on from there: load moves to other servers."""
_GRACE_S = 60.0
_SHORT_S = 1.0
_STEADY_S = 10.0


@dataclass(frozen=True, slots=True)
class Begun:
    """What follows until `Listed` is everything."""


@dataclass(frozen=True, slots=True)
class Found:
    """Objects, in the order of their changes."""

    items: list[Item]


@dataclass(frozen=True, slots=True)
class Listed:
    """Everything has been found; what was not found is gone."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How it goes."""

    reason: str
    """Why nothing comes; empty: it does."""
    code: int = 0
    """As of HTTP, where the server has said so."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """A fault of ours: nothing more comes."""

    error: Exception


News = Begun | Found | Listed | Condition | Crashed


class Follower(threading.Thread):
    """Of one resource, until `stop` is set (and the client closed)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        read: Callable[[msgspec.Raw, bool], Item],
        tell: Callable[[Resource, News], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"kube-{resource}", daemon=True)
        self.resource = resource
        self.connects = 0
        """Watches and lists that were begun."""
        self._client = client
        self._tell = tell
        self._stopped = stop
        self._connection: Connection | None = None
        self._backoff = Backoff()
        self.list_watch = ListWatch(read)

    def run(self) -> None:
        """Follows."""
        try:
            while not self._stopped.is_set():
                self._stopped.wait(self._round())
        except Exception as error:  # noqa: BLE001 - raised again by whoever is told
            self._tell(self.resource, Crashed(error))
        self._leave()

    def _round(self) -> float:
        """One question and its answer; how long to wait before the next, in seconds."""
        server = self._connection.server if self._connection else self._client.server
        started = time.monotonic()
        try:
            self._ask()
        except Refused as refusal:
            self._leave()
            if self.list_watch.refused(refusal):
                return 0.0
            wait = self._trouble(Condition(str(refusal), refusal.code), refusal.retry_after_s)
            fails = refusal.code >= http.client.INTERNAL_SERVER_ERROR
            return 0.0 if fails and self._client.fails(server) else wait
        except Unreachable as error:
            self._leave()
            wait = self._trouble(Condition(str(error)), steady=time.monotonic() - started)
            return 0.0 if self._client.fails(server) else wait
        except KubeError as error:
            return self._trouble(Condition(str(error)))
        return 0.0

    def _trouble(self, what: Condition, at_least_s: float = 0.0, steady: float = 0.0) -> float:
        if steady > _STEADY_S:
            self._backoff.reset()
        if not self._stopped.is_set():
            self._tell(self.resource, what)
        return self._backoff.delay(at_least_s)

    def _ask(self) -> None:
        if self._connection is None:
            self._connection = self._client.connect()
            version = self._client.version or self._client.learn_version(self._connection)
            self.list_watch.streaming = version is not None and version.has_streaming_lists
        connection = self._connection
        timeout_s = round(WATCH_S * random.uniform(1, 2))
        question = self.list_watch.question(timeout_s)
        self.connects += 1
        answer = connection.ask(self.resource.path(*question.query))
        self._client.works()
        if question.begins:
            self._tell(self.resource, Begun())
        if question.watching:
            self._tell(self.resource, Condition(""))
            self._watch(connection, answer, timeout_s + _GRACE_S)
        else:
            self._pass_on(self.list_watch.page(connection.read(answer)))

    def _watch(
        self, connection: Connection, answer: http.client.HTTPResponse, patience_s: float
    ) -> None:
        """Until the server ends it."""
        began, some = time.monotonic(), False
        while data := connection.read_some(answer, patience_s):
            step = self.list_watch.lines(data)
            some = some or bool(step.items) or step.complete
            self._pass_on(step)
        lasted = time.monotonic() - began
        if lasted > _STEADY_S:
            self._backoff.reset()
        if lasted < _SHORT_S and not some:
            raise Refused("the server ends the watch at once", 0)

    def _pass_on(self, step: Step[Item]) -> None:
        if step.items:
            self._tell(self.resource, Found(step.items))
        if step.complete:
            self._tell(self.resource, Listed())

    def _leave(self) -> None:
        if self._connection is not None:
            self._client.leave(self._connection)
            self._connection = None
