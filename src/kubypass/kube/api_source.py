# SPDX-License-Identifier: Apache-2.0
"""A cluster's API as a source of objects: a thread each for services, slices, nodes and the node's pods.

The threads read; whoever waits for `fd` calls `take` and changes the tables, alone. Until everything was listed once
(`complete`), nothing is to be made of the tables. When the API goes away they stay as they are; what comes
afterwards is compared with them, so that only differences are told.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from kubypass.errors import KubeError
from kubypass.kube.client import Client
from kubypass.kube.cluster import Cluster, Dirty
from kubypass.kube.contents import Object, ObjectKey, Reading
from kubypass.kube.follower import Begun, Crashed, Follower, Found, Listed, News
from kubypass.kube.permissions import CLUSTER_RULES, missing, missing_message
from kubypass.kube.resources import Item, Resource, followed
from kubypass.kube.snapshot import Snapshot
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey

_FORBIDDEN = 403
_LOOK_S = 1.0


@dataclass(slots=True)
class Course:
    """How one resource is doing."""

    reason: str = "not connected yet"
    """Why nothing comes; empty: it does."""
    code: int = 0
    complete: bool = False
    events: int = 0
    """Objects that came, in lists and as changes."""
    seen: set[ObjectKey] | None = None
    """While everything is listed: what was found."""


@dataclass(slots=True)
class Connected:
    """Of all resources together, as it is shown."""

    reason: str = "not connected yet"
    since: float = field(default_factory=time.time)
    """Seconds since 1970."""
    reconnects: int = 0
    """How often it was well again."""


class ApiSource:
    """Follows the cluster that `client` knows, for one node."""

    def __init__(
        self, client: Client, node: str, *, proxy_name: str = "", heartbeat_s: float = 30.0
    ) -> None:
        self.client = client
        self.changed_nodes: set[str] = set()
        """Nodes that changed since the caller last cleared this."""
        self.changed_pods = False
        """Whether traits of pods did; likewise."""
        self.triggers: list[tuple[ServiceKey, str]] = []
        """Services whose endpoints changed, and when the cause happened (RFC 3339); likewise."""
        self.connected = Connected()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when something has come."""
        self._heartbeat_s = heartbeat_s
        self._cluster = Cluster()
        self._objects: dict[ObjectKey, Object] = {}
        self._problems: dict[ObjectKey, Problem] = {}
        self._denied: tuple[Problem, ...] = ()
        self._inbox: queue.SimpleQueue[tuple[Resource | None, News | tuple[Problem, ...]]] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._ask_permissions = threading.Event()
        resources, reading = followed(node, proxy_name), Reading(proxy_name)
        self.courses = {each.name: Course() for each in resources}
        self._followers = [
            Follower(client, each, reading, self._tell, self._stop) for each in resources
        ]
        self._guard = threading.Thread(target=self._watch_over, name="kube-guard", daemon=True)

    @property
    def complete(self) -> bool:
        """Whether everything was listed once."""
        return all(course.complete for course in self.courses.values())

    @property
    def connects(self) -> dict[str, tuple[int, int]]:
        """By resource: requests for lists and watches, and how often everything was listed again."""
        return {
            each.resource.name: (each.connects, each.list_watch.relists) for each in self._followers
        }

    def start(self) -> None:
        """Begins to follow."""
        for thread in (*self._followers, self._guard):
            thread.start()

    def stop(self) -> None:
        """Ends every connection. The threads end by themselves."""
        self._stop.set()
        self._ask_permissions.set()
        self.client.close()

    def snapshot(self) -> Snapshot:
        """What is known: views."""
        return self._cluster.snapshot(self.problems())

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects, and what keeps them from coming."""
        found = [problem for _, problem in sorted(dict(self._problems).items())]
        return (*self._denied, *self._troubles(), *found)

    def _troubles(self) -> tuple[Problem, ...]:
        """A reason that several resources have is one problem."""
        by_reason: dict[str, list[str]] = {}
        for name, course in self.courses.items():
            if course.reason and not (course.code == _FORBIDDEN and self._denied):
                by_reason.setdefault(course.reason, []).append(name)
        return tuple(
            Problem("Kubernetes API", f"no {', '.join(names)}: {reason}")
            for reason, names in by_reason.items()
        )

    def take(self) -> set[ServiceKey]:
        """Takes in all that has come; services to plan anew."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        dirty = Dirty()
        while not self._inbox.empty():
            resource, news = self._inbox.get_nowait()
            if resource is None:
                self._denied = news if isinstance(news, tuple) else ()
            elif not isinstance(news, tuple):
                self._take_one(resource, self.courses[resource.name], news, dirty)
        self._note_condition()
        self.changed_nodes |= dirty.nodes
        self.changed_pods = self.changed_pods or dirty.pods
        return dirty.services

    def _take_one(self, resource: Resource, course: Course, news: News, dirty: Dirty) -> None:
        if isinstance(news, Found):
            course.events += len(news.items)
            for item in news.items:
                self._put(item, course, dirty)
        elif isinstance(news, Begun):
            course.seen = set()
        elif isinstance(news, Listed):
            kinds = {resource.kind, f"{resource.kind}Traits"}
            seen = course.seen or set()
            for key in [k for k in self._objects if k[0] in kinds and k not in seen]:
                self._change(key, None, dirty)
            for key in [k for k in self._problems if k[0] in kinds and k not in seen]:
                del self._problems[key]
            course.seen, course.complete = None, True
        elif isinstance(news, Crashed):
            raise news.error
        else:
            course.reason, course.code = news.reason, news.code
            if news.code == _FORBIDDEN:
                self._ask_permissions.set()

    def _put(self, item: Item, course: Course, dirty: Dirty) -> None:
        for key, found in item.objects:
            if course.seen is not None:
                course.seen.add(key)
            if item.problem is None:
                self._problems.pop(key, None)
            else:
                self._problems[key] = item.problem
            if (found is not None or item.problem is None) and self._change(key, found, dirty):
                self._note_trigger(key, item.trigger)

    def _change(self, key: ObjectKey, new: Object | None, dirty: Dirty) -> bool:
        old = self._objects.get(key)
        if old == new:
            return False
        self._cluster.store(key, old, new, dirty)
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        return True

    def _note_trigger(self, key: ObjectKey, trigger: str) -> None:
        if trigger and self.complete:
            found = self._objects.get(key)
            service = getattr(found, "service", "")
            if service:
                self.triggers.append(((key[1], service), trigger))

    def _note_condition(self) -> None:
        reasons = [course.reason for course in self.courses.values() if course.reason]
        reason = reasons[0] if reasons else ""
        now = self.connected
        if bool(reason) != bool(now.reason):
            now.since = time.time()
            now.reconnects += not reason
        if not reason:
            self._denied = ()
        now.reason = reason

    def _tell(self, resource: Resource | None, news: News | tuple[Problem, ...]) -> None:
        """Called by the threads."""
        self._inbox.put((resource, news))
        os.eventfd_write(self.fd, 1)

    def _watch_over(self) -> None:
        """A connection on which nothing comes may have lost its other end: the server is asked for a sign of life."""
        while not self._stop.is_set():
            asked = self._ask_permissions.wait(_LOOK_S)
            if self._stop.is_set():
                return
            if asked:
                self._name_missing_permissions()
            if self.client.is_silent(self._heartbeat_s):
                self.client.probe()

    def _name_missing_permissions(self) -> None:
        try:
            with self.client.connection() as connection:
                rules = missing(connection, CLUSTER_RULES)
        except KubeError:
            return  # asked again when the next request is refused
        finally:
            self._ask_permissions.clear()
        if rules:
            self._tell(None, (Problem("Kubernetes API", missing_message(rules)),))
