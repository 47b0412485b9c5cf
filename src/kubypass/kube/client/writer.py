# SPDX-License-Identifier: Apache-2.0
"""Writes to the API: removes the taint of the agent's node, and creates Events.

A thread writes, so callers do not wait. Callers ask again while the taint is there. `retry` writes an Event again that
the server has refused; log and status have what it said.
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
from http.client import CONFLICT, FORBIDDEN, NOT_FOUND, UNPROCESSABLE_ENTITY
from urllib.parse import quote

from kubypass.errors import KubeError
from kubypass.kube.client.client import Client
from kubypass.kube.client.failures import Refused
from kubypass.kube.client.permissions import CLUSTER_RULES

EVENTS_A_MINUTE = 10
_AGAIN_S = 15.0
_JSON_PATCH = "application/json-patch+json"
_COMPONENT = "kubypass"
_NODES_NAMESPACE = "default"
"""Where Kubernetes keeps Events about objects without a namespace."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an event is about."""

    kind: str
    namespace: str
    """Empty for a Node."""
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
    """Writes for one node. `troubles` has the last failure of each resource; a success of a resource ends its own."""

    def __init__(
        self, client: Client, node: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.troubles: dict[str, str] = {}
        self.written = 0
        """How many requests succeeded."""
        self._client = client
        self._node = node
        self._clock = clock
        self._events: deque[float] = deque(maxlen=EVENTS_A_MINUTE)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._untainting = False
        self._refused: _Write | None = None
        self._tried = 0.0
        """When one was refused last, by the clock."""

    def retry(self) -> None:
        """Writes the last Event that was refused once more, some time after: the permission may be there by now."""
        refused = self._refused
        if refused is not None and self._clock() - self._tried >= _AGAIN_S:
            self._refused = None
            self._put(refused)

    def remove_taint(self, key: str, taints: Sequence[str]) -> None:
        """Removes every taint with this key. `taints` are the keys of the node's taints, in order.

        The patch names taints by index and tests their keys: the server refuses it if the taints changed meanwhile.
        """
        indexes = [at for at, found in enumerate(taints) if found == key]
        if not indexes or self._untainting:
            return
        operations = []
        for at in reversed(indexes):
            operations.append({"op": "test", "path": f"/spec/taints/{at}/key", "value": key})
            operations.append({"op": "remove", "path": f"/spec/taints/{at}"})
        self._untainting = True
        path = f"/api/v1/nodes/{quote(self._node)}"
        body = json.dumps(operations).encode()
        self._put(_Write("PATCH", path, body, _JSON_PATCH, "nodes", "patch"))

    def event(self, subject: Subject, reason: str, message: str, name: str = "") -> bool:
        """Creates a warning Event about an object. Returns False if there were too many within a minute.

        An Event of the same `name` that is there already, from this node or another, is enough.
        """
        now = self._clock()
        if len(self._events) == EVENTS_A_MINUTE and now - self._events[0] < 60.0:
            return False
        self._events.append(now)
        namespace = subject.namespace or _NODES_NAMESPACE
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": name or f"{subject.name[:200]}.{time.time_ns():x}",
                "namespace": namespace,
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
        path = f"/api/v1/namespaces/{quote(namespace)}/events"
        self._put(_Write("POST", path, json.dumps(body).encode(), "", "events", "create"))
        return True

    def stop(self) -> None:
        """Ends the thread after the writes that are queued."""
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
                    answer = connection.request(write.path, write.method, write.body, write.kind)
                    connection.read(answer)
                trouble = ""
                self.written += 1
            except KubeError as error:
                trouble = _trouble(write, error)
                if write.resource == "events" and trouble:
                    self._refused, self._tried = write, self._clock()
            others = {key: said for key, said in self.troubles.items() if key != write.resource}
            self.troubles = {**others, write.resource: trouble} if trouble else others
            if write.resource == "nodes":
                self._untainting = False


def _trouble(write: _Write, error: KubeError) -> str:
    if isinstance(error, Refused) and error.code == UNPROCESSABLE_ENTITY:
        return ""  # the node has changed: the caller asks again with its present taints
    if isinstance(error, Refused) and error.code == CONFLICT and write.resource == "events":
        return ""  # another node has said the same
    if isinstance(error, Refused) and error.code == NOT_FOUND and write.resource == "events":
        return ""  # its namespace has gone
    message = f"cannot {write.verb} {write.resource}: {error}"
    if isinstance(error, Refused) and error.code == FORBIDDEN:
        rules = [
            str(rule)
            for rule in CLUSTER_RULES
            if rule.resource == write.resource and write.verb in rule.verbs
        ]
        message += f"; add to its ClusterRole: {', '.join(rules)}"
    return message
