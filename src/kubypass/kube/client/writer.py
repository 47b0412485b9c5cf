# SPDX-License-Identifier: Apache-2.0
"""The little that is written to the API: the node's own taint is taken away, and events tell what went wrong here.

A thread writes, so that nobody waits. What fails is not tried again here: a taint that is still there is asked for
again, and an event that is lost is in the log and in the status too.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import FORBIDDEN, UNPROCESSABLE_ENTITY
from urllib.parse import quote

from kubypass.errors import KubeError
from kubypass.kube.client.client import Client
from kubypass.kube.client.failures import Refused
from kubypass.kube.client.permissions import CLUSTER_RULES

EVENTS_A_MINUTE = 10
_JSON_PATCH = "application/json-patch+json"
_COMPONENT = "kubypass"


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an event is about."""

    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class _Write:
    method: str
    path: str
    body: bytes
    kind: str
    resource: str
    verb: str


class Writer:
    """Writes for one node. `trouble` is what the last failure was, empty after a success."""

    def __init__(
        self, client: Client, node: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.trouble = ""
        self.written = 0
        """Requests that succeeded."""
        self._client = client
        self._node = node
        self._clock = clock
        self._events: deque[float] = deque(maxlen=EVENTS_A_MINUTE)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._untainting = False

    def remove_taint(self, key: str, taints: Sequence[str]) -> None:
        """Takes every taint with this key away; `taints` are the keys of the node's, in order.

        A taint that came or went meanwhile makes the server refuse: each is named by its place, and tested.
        """
        places = [at for at, found in enumerate(taints) if found == key]
        if not places or self._untainting:
            return
        operations = []
        for at in reversed(places):
            operations.append({"op": "test", "path": f"/spec/taints/{at}/key", "value": key})
            operations.append({"op": "remove", "path": f"/spec/taints/{at}"})
        self._untainting = True
        path = f"/api/v1/nodes/{quote(self._node)}"
        body = json.dumps(operations).encode()
        self._put(_Write("PATCH", path, body, _JSON_PATCH, "nodes", "patch"))

    def event(self, subject: Subject, reason: str, message: str) -> bool:
        """A warning about an object; False where there were too many within a minute."""
        now = self._clock()
        if len(self._events) == EVENTS_A_MINUTE and now - self._events[0] < 60.0:
            return False
        self._events.append(now)
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{subject.name[:200]}.{time.time_ns():x}",
                "namespace": subject.namespace,
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:1000],
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": _COMPONENT, "host": self._node},
        }
        path = f"/api/v1/namespaces/{quote(subject.namespace)}/events"
        self._put(_Write("POST", path, json.dumps(body).encode(), "", "events", "create"))
        return True

    def stop(self) -> None:
        """Nothing more is written."""
        self._queue.put(None)

    def _put(self, write: _Write) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kube-writer", daemon=True)
            self._thread.start()
        self._queue.put(write)

    def _run(self) -> None:
        while (write := self._queue.get()) is not None:
            try:
                with self._client.connection() as connection:
                    answer = connection.ask(write.path, write.method, write.body, write.kind)
                    connection.read(answer)
                self.trouble = ""
                self.written += 1
            except KubeError as error:
                self.trouble = _trouble(write, error)
            if write.resource == "nodes":
                self._untainting = False


def _trouble(write: _Write, error: KubeError) -> str:
    if isinstance(error, Refused) and error.code == UNPROCESSABLE_ENTITY:
        return ""  # the node has changed: the next look sees it as it is now
    message = f"cannot {write.verb} {write.resource}: {error}"
    if isinstance(error, Refused) and error.code == FORBIDDEN:
        rules = [
            str(rule)
            for rule in CLUSTER_RULES
            if rule.resource == write.resource and write.verb in rule.verbs
        ]
        message += f"; add to its ClusterRole: {', '.join(rules)}"
    return message
