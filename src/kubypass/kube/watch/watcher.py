# SPDX-License-Identifier: Apache-2.0
"""A thread that lists and watches one resource of the API, and reports events."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable

import msgspec

from kubypass.errors import KubeError
from kubypass.kube.client.backoff import Backoff
from kubypass.kube.client.client import Client
from kubypass.kube.client.connection import Connection
from kubypass.kube.client.failures import Refused, Unreachable
from kubypass.kube.watch.list_watch import Batch, ListWatch
from kubypass.kube.watch.resources import ObjectUpdate, Resource
from kubypass.kube.watch.watch_events import (
    Connected,
    Failed,
    Interrupted,
    ListFinished,
    ListStarted,
    Objects,
    WatchEvent,
)

WATCH_S = 300
"""The server ends a watch after one to two times this, and the next one continues: so load moves to other servers."""
_GRACE_S = 60.0
_SHORT_S = 1.0
_STEADY_S = 10.0


class Watcher(threading.Thread):
    """Runs until `stop` is set and the client is closed."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        read: Callable[[msgspec.Raw, bool], ObjectUpdate],
        report: Callable[[Resource, WatchEvent], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(name=f"kube-{resource}", daemon=True)
        self.resource = resource
        self.requests = 0
        """How many lists and watches were started."""
        self._client = client
        self._report = report
        self._stopped = stop
        self._connection: Connection | None = None
        self._backoff = Backoff()
        self.list_watch = ListWatch(read)

    def run(self) -> None:
        """Lists and watches until it is stopped."""
        try:
            while not self._stopped.is_set():
                self._stopped.wait(self._round())
        except Exception as error:  # noqa: BLE001 - the source raises it again in its thread
            self._report(self.resource, Failed(error))
        self._disconnect()

    def _round(self) -> float:
        """Makes one request and reads its answer. Returns the seconds to wait before the next one."""
        server = self._connection.server if self._connection else self._client.server
        started = time.monotonic()
        try:
            self._request()
        except Refused as refusal:
            self._disconnect()
            if self.list_watch.handle_refusal(refusal):
                return 0.0
            wait = self._interrupted(Interrupted(str(refusal), refusal.code), refusal.retry_after_s)
            broken = refusal.code >= http.client.INTERNAL_SERVER_ERROR
            return 0.0 if broken and self._client.fail_over(server) else wait
        except Unreachable as error:
            self._disconnect()
            wait = self._interrupted(Interrupted(str(error)), lasted_s=time.monotonic() - started)
            return 0.0 if self._client.fail_over(server) else wait
        except KubeError as error:
            return self._interrupted(Interrupted(str(error)))
        return 0.0

    def _interrupted(
        self, event: Interrupted, at_least_s: float = 0.0, lasted_s: float = 0.0
    ) -> float:
        """Reports the event. Returns the seconds to wait."""
        if lasted_s > _STEADY_S:
            self._backoff.reset()
        if not self._stopped.is_set():
            self._report(self.resource, event)
        return self._backoff.delay(at_least_s)

    def _request(self) -> None:
        if self._connection is None:
            self._connection = self._client.connect()
            version = self._client.version or self._client.learn_version(self._connection)
            self.list_watch.streaming = version is not None and version.has_streaming_lists
        connection = self._connection
        timeout_s = round(WATCH_S * random.uniform(1, 2))
        request = self.list_watch.next_request(timeout_s)
        self.requests += 1
        response = connection.request(self.resource.path(*request.query))
        self._client.answered()
        if request.starts_list:
            self._report(self.resource, ListStarted())
        if request.is_watch:
            self._report(self.resource, Connected())
            self._watch(connection, response, timeout_s + _GRACE_S)
        else:
            self._report_batch(self.list_watch.read_page(connection.read(response)))

    def _watch(
        self, connection: Connection, response: http.client.HTTPResponse, patience_s: float
    ) -> None:
        """Reads a watch until the server ends it."""
        began, any_events = time.monotonic(), False
        while data := connection.read_chunk(response, patience_s):
            batch = self.list_watch.read_lines(data)
            any_events = any_events or bool(batch.items) or batch.list_finished
            self._report_batch(batch)
        lasted = time.monotonic() - began
        if lasted > _STEADY_S:
            self._backoff.reset()
        if lasted < _SHORT_S and not any_events:
            raise Refused("the server ends the watch at once", 0)

    def _report_batch(self, batch: Batch[ObjectUpdate]) -> None:
        if batch.items:
            self._report(self.resource, Objects(batch.items))
        if batch.list_finished:
            self._report(self.resource, ListFinished())

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._client.release(self._connection)
            self._connection = None
