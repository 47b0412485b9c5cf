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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import msgspec

from kubypass.errors import KubeError
from kubypass.kube.client.client import Client
from kubypass.kube.client.permissions import CLUSTER_RULES, CONFIG_RULES, missing, missing_message
from kubypass.kube.client.writer import Writer
from kubypass.kube.config_maps import ConfigMapName, config_resources, read_config_item
from kubypass.kube.manifests.parser import Object, ObjectKey, Reading
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Cluster, Dirty
from kubypass.kube.watch.resources import NODES, Item, Resource, followed, read_item
from kubypass.kube.watch.watcher import Begun, Crashed, Follower, Found, Listed, News
from kubypass.model.config_map import ConfigMap
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey

_API = "Kubernetes API"
_FORBIDDEN = 403
_UNTRIED = "not connected yet"
_NOT_ALLOWED = "permissions are missing"
_LOOK_S = 1.0


@dataclass(slots=True)
class Course:
    """How one resource is doing."""

    reason: str = _UNTRIED
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

    reason: str = _UNTRIED
    since: float = field(default_factory=time.time)
    """Seconds since 1970."""
    reconnects: int = 0
    """How often it was well again."""

    @property
    def untried(self) -> bool:
        """Whether nobody has been asked yet."""
        return self.reason == _UNTRIED


class ApiSource:
    """Follows the cluster that `client` knows, for one node."""

    def __init__(self, client: Client, node: str, config: ConfigMapName | None = None) -> None:
        self.client = client
        self.node = node
        self.changed_nodes: set[str] = set()
        """Nodes that changed since the caller last cleared this."""
        self.changed_pods = False
        """Whether traits of pods did; likewise."""
        self.changed_settings = False
        """Whether ConfigMaps with settings did, or the node that some of them may be for; likewise."""
        self.triggers: list[tuple[ServiceKey, str]] = []
        """Services whose endpoints changed, and when the cause happened (RFC 3339); likewise."""
        self.connected = Connected()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when something has come."""
        self.heartbeat_s = 30.0
        """A connection may be silent for so long before the server is asked for a sign of life."""
        self.proxy_name = ""
        """As the setting `k8s-service-proxy-name`."""
        self.courses: dict[str, Course] = {}
        self.followers: list[Follower] = []
        self.writer = Writer(client, node)
        self._config = config
        self._cluster = Cluster()
        self._objects: dict[ObjectKey, Object] = {}
        self._problems: dict[ObjectKey, Problem] = {}
        self._denied: tuple[Problem, ...] = ()
        self._inbox: queue.SimpleQueue[tuple[Resource | None, News | tuple[Problem, ...]]] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._ask_permissions = threading.Event()
        self._following = False

    @property
    def configured(self) -> bool:
        """Whether the ConfigMaps with settings are known, and the nodes that some of them are for."""
        return all(course.complete for course in self.courses.values())

    @property
    def complete(self) -> bool:
        """Whether everything was listed once."""
        return self._following and self.configured

    @property
    def settings(self) -> Mapping[ObjectKey, ConfigMap]:
        """The ConfigMaps."""
        return self._cluster.settings

    def configure(self) -> None:
        """Begins to follow nodes, and the ConfigMaps of settings."""
        if self.followers:
            return
        self._follow(NODES, partial(read_item, NODES, Reading()))
        for resource in config_resources(self._config) if self._config else ():
            self._follow(resource, partial(read_config_item, resource))
        threading.Thread(target=self._watch_over, name="kube-guard", daemon=True).start()

    def start(self) -> None:
        """Begins to follow everything."""
        self.configure()
        reading = Reading(self.proxy_name)
        for resource in followed(self.node, self.proxy_name):
            self._follow(resource, partial(read_item, resource, reading))
        self._following = True

    def _follow(self, resource: Resource, read: Callable[[msgspec.Raw, bool], Item]) -> None:
        self.courses[str(resource)] = Course()
        follower = Follower(self.client, resource, read, self._tell, self._stop)
        self.followers.append(follower)
        follower.start()

    def stop(self) -> None:
        """Ends every connection. The threads end by themselves."""
        self._stop.set()
        self._ask_permissions.set()
        self.writer.stop()
        self.client.close()

    def remove_taint(self, key: str) -> None:
        """Takes the taint off our node, if it is there; to be called again until it is not."""
        own = self._cluster.nodes.get(self.node)
        if own is not None:
            self.writer.remove_taint(key, own.taints)

    def snapshot(self) -> Snapshot:
        """What is known: views."""
        return self._cluster.snapshot(self.problems())

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with objects, and what keeps them from coming."""
        found = [problem for _, problem in sorted(dict(self._problems).items())]
        trouble = self.writer.trouble
        unwritten = (Problem(_API, trouble),) if trouble else ()
        return (*self._denied, *self._troubles(), *unwritten, *self._stranger(), *found)

    def _stranger(self) -> tuple[Problem, ...]:
        """A node that the cluster does not know has no pods, and its NodePorts are nobody's."""
        if not self.complete or self.node in self._cluster.nodes:
            return ()
        message = "is no node of this cluster; expected --node or NODE_NAME to be the name of ours"
        return (Problem(f"Node {self.node}", message),)

    def _troubles(self) -> tuple[Problem, ...]:
        """A reason that several resources have is one problem."""
        by_reason: dict[str, list[str]] = {}
        for name, course in self.courses.items():
            if course.reason and not (course.code == _FORBIDDEN and self._denied):
                by_reason.setdefault(course.reason, []).append(name)
        return tuple(
            Problem(_API, f"no {', '.join(names)}: {reason}") for reason, names in by_reason.items()
        )

    def scan(self) -> set[ServiceKey]:
        """Nothing: what a watch fails to tell is found when it is begun again."""
        return set()

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
                self._take_one(resource, self.courses[str(resource)], news, dirty)
        self._note_condition()
        self.changed_nodes |= dirty.nodes
        self.changed_pods = self.changed_pods or dirty.pods
        self.changed_settings |= dirty.settings or self.node in dirty.nodes
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
        courses = [course for course in self.courses.values() if course.reason]
        tried = [course for course in courses if course.reason != _UNTRIED]
        reason = (tried or courses)[0].reason if courses else ""
        if any(course.code == _FORBIDDEN for course in tried):
            reason = self._denied[0].message if self._denied else _NOT_ALLOWED
        now = self.connected
        if bool(reason) != bool(now.reason):
            now.since = time.time()
            now.reconnects += not reason and not now.untried
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
            silent = self.client.silent(self.heartbeat_s)
            if self.client.version is None and not self.connected.reason:
                silent.add(self.client.server)
            for server in silent:
                self.client.probe(server)

    def _name_missing_permissions(self) -> None:
        try:
            with self.client.connection() as connection:
                rules = missing(connection, CLUSTER_RULES)
                place = self._config.namespace if self._config else ""
                asked = CONFIG_RULES if self._config else ()
                config_rules = missing(connection, asked, place)
        except KubeError:
            return  # asked again when the next request is refused
        finally:
            self._ask_permissions.clear()
        if rules or config_rules:
            message = missing_message(rules, config_rules, place)
            self._tell(None, (Problem(_API, message),))
