# SPDX-License-Identifier: Apache-2.0
"""A cluster's API as a source of objects: one thread each watches Services, EndpointSlices, Nodes and the node's Pods.

The threads read and put events into a queue. The caller waits for `fd`, then calls `take`, which alone changes the
store. Until every resource was listed once (`complete`), the store must not be used. If the API goes away, the store
stays as it is. Later lists are compared with it, so that `take` reports differences only.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.client import FORBIDDEN

import msgspec

from kubypass.kube.client.client import Client
from kubypass.kube.client.writer import Writer
from kubypass.kube.config_maps import ConfigMapName, config_resources, read_config_map
from kubypass.kube.convert.converter import Converter
from kubypass.kube.convert.last_good import keep_last_good
from kubypass.kube.snapshot import Snapshot
from kubypass.kube.store import Dirty, Object, ObjectKey, Store
from kubypass.kube.watch.heartbeat import Heartbeat
from kubypass.kube.watch.resources import (
    NODES,
    ObjectUpdate,
    Resource,
    read_object,
    watched_resources,
    with_notes,
)
from kubypass.kube.watch.watch_events import (
    Connected,
    Failed,
    ListFinished,
    ListStarted,
    Objects,
    WatchEvent,
)
from kubypass.kube.watch.watch_state import ConnectionState, WatchState, broken_watches
from kubypass.kube.watch.watcher import Watcher
from kubypass.model.config_map import ConfigMap
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey

_API = "Kubernetes API"


class ApiSource:
    """Watches the cluster of `client` for one node."""

    def __init__(self, client: Client, node: str, config: ConfigMapName | None = None) -> None:
        self.client = client
        self.node = node
        self.changed_nodes: set[str] = set()
        """Nodes that changed since the caller last cleared this."""
        self.changed_pods = False
        """Whether the metadata of a pod changed since the caller last cleared this."""
        self.changed_settings = False
        """Whether a ConfigMap with settings, or the node, changed since the caller last cleared this."""
        self.triggers: list[tuple[ServiceKey, str]] = []
        """Services whose endpoints changed since the caller cleared this, and when the cause happened (RFC 3339)."""
        self.connection = ConnectionState()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when events are waiting."""
        self.proxy_name = ""
        """The setting `k8s-service-proxy-name`."""
        self.watch_states: dict[str, WatchState] = {}
        self.watchers: list[Watcher] = []
        self.writer = Writer(client, node)
        self.heartbeat = Heartbeat(
            client, config, lambda: not self.connection.reason, self._report_denied
        )
        self._config = config
        self._store = Store()
        self._objects: dict[ObjectKey, Object] = {}
        self._problems: dict[ObjectKey, Problem] = {}
        self._denied = ""
        """The missing permissions as a message; empty if none are known."""
        self._inbox: queue.SimpleQueue[tuple[Resource, WatchEvent] | str] = queue.SimpleQueue()
        """Events of resources, and messages on missing permissions."""
        self._stop = threading.Event()
        self._watches_all = False

    @property
    def configured(self) -> bool:
        """Whether the ConfigMaps with settings, and the nodes that some of them select, were listed once."""
        return all(state.complete for state in self.watch_states.values())

    @property
    def complete(self) -> bool:
        """Whether every resource was listed once."""
        return self._watches_all and self.configured

    @property
    def config_maps(self) -> Mapping[ObjectKey, ConfigMap]:
        """The ConfigMaps with settings."""
        return self._store.config_maps

    def configure(self) -> None:
        """Starts to watch nodes and the ConfigMaps with settings."""
        if self.watchers:
            return
        self._watch(NODES, partial(read_object, NODES, Converter()))
        for resource in config_resources(self._config) if self._config else ():
            self._watch(resource, partial(read_config_map, resource))
        self.heartbeat.start()

    def start(self) -> None:
        """Starts to watch all resources."""
        self.configure()
        converter = Converter(self.proxy_name)
        for resource in watched_resources(self.node, self.proxy_name):
            self._watch(resource, partial(read_object, resource, converter))
        self._watches_all = True

    def _watch(self, resource: Resource, read: Callable[[msgspec.Raw, bool], ObjectUpdate]) -> None:
        self.watch_states[str(resource)] = WatchState()
        watcher = Watcher(self.client, resource, read, self._report, self._stop)
        self.watchers.append(watcher)
        watcher.start()

    def stop(self) -> None:
        """Ends every connection. The threads end on their own."""
        self._stop.set()
        self.heartbeat.stop()
        self.writer.stop()
        self.client.close()

    def remove_taint(self, key: str) -> None:
        """Removes the taint from this node if it is there. The caller repeats this until the taint is gone."""
        own = self._store.nodes.get(self.node)
        if own is not None:
            self.writer.remove_taint(key, own.taints)

    def snapshot(self) -> Snapshot:
        """Views of the store."""
        return self._store.snapshot(self.problems())

    def problems(self) -> tuple[Problem, ...]:
        """The problems of objects, and of their way here."""
        found = [problem for _, problem in sorted(dict(self._problems).items())]
        denied = (Problem(_API, self._denied),) if self._denied else ()
        unwritten = [Problem(_API, said) for _, said in sorted(self.writer.troubles.items())]
        return (*denied, *self._broken_watches(), *unwritten, *self._unknown_node(), *found)

    def _unknown_node(self) -> tuple[Problem, ...]:
        """A node that the cluster does not know has no pods, and nobody reaches its NodePorts."""
        if not self.complete or self.node in self._store.nodes:
            return ()
        message = "is no node of this cluster; expected --node or NODE_NAME to be the name of ours"
        return (Problem(f"Node {self.node}", message),)

    def _broken_watches(self) -> tuple[Problem, ...]:
        return tuple(
            Problem(_API, f"no {', '.join(names)}: {reason}")
            for reason, names in broken_watches(
                self.watch_states, permissions_known=bool(self._denied)
            )
        )

    def scan(self) -> set[ServiceKey]:
        """No services: a change that a watch misses is found by its next list."""
        return set()

    def take(self) -> set[ServiceKey]:
        """Applies all waiting events to the store. Returns the services to plan again."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        dirty = Dirty()
        while not self._inbox.empty():
            message = self._inbox.get_nowait()
            if isinstance(message, str):
                self._denied = message
            else:
                resource, event = message
                self._apply(resource, self.watch_states[str(resource)], event, dirty)
        self.connection.update(self.watch_states.values(), self._denied)
        if not self.connection.reason:
            self._denied = ""
        self.changed_nodes |= dirty.nodes
        self.changed_pods = self.changed_pods or dirty.pods
        self.changed_settings |= dirty.settings or self.node in dirty.nodes
        return dirty.services

    def _apply(
        self, resource: Resource, state: WatchState, event: WatchEvent, dirty: Dirty
    ) -> None:
        if isinstance(event, Objects):
            state.events += len(event.updates)
            for update in event.updates:
                self._apply_update(update, state, dirty)
        elif isinstance(event, ListStarted):
            state.listed = set()
        elif isinstance(event, ListFinished):
            self._remove_unlisted(resource, state.listed or set(), dirty)
            state.listed, state.complete = None, True
        elif isinstance(event, Failed):
            raise event.error
        elif isinstance(event, Connected):
            state.reason, state.code = "", 0
        else:
            state.reason, state.code = event.reason, event.code
            if event.code == FORBIDDEN:
                self.heartbeat.ask_permissions()

    def _remove_unlisted(self, resource: Resource, listed: set[ObjectKey], dirty: Dirty) -> None:
        kinds = {resource.kind, f"{resource.kind}Metadata"}
        for key in [k for k in self._objects if k[0] in kinds and k not in listed]:
            self._replace(key, None, dirty)
        for key in [k for k in self._problems if k[0] in kinds and k not in listed]:
            del self._problems[key]

    def _apply_update(self, update: ObjectUpdate, state: WatchState, dirty: Dirty) -> None:
        for key, found in update.objects:
            if state.listed is not None:
                state.listed.add(key)
            notes: list[str] = []
            kept = keep_last_good(found, self._objects.get(key), notes)
            problem = with_notes(update.problem, key, notes)
            if problem is None:
                self._problems.pop(key, None)
            else:
                self._problems[key] = problem
            usable = kept is not None or problem is None
            if usable and self._replace(key, kept, dirty):
                self._note_trigger(key, update.trigger)

    def _replace(self, key: ObjectKey, new: Object | None, dirty: Dirty) -> bool:
        """Replaces an object in the store. Returns whether it differs."""
        old = self._objects.get(key)
        if old == new:
            return False
        self._store.put(key, old, new, dirty)
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

    def _report(self, resource: Resource, event: WatchEvent) -> None:
        """The threads of the watchers call this."""
        self._inbox.put((resource, event))
        os.eventfd_write(self.fd, 1)

    def _report_denied(self, message: str) -> None:
        """The heartbeat's thread calls this."""
        self._inbox.put(message)
        os.eventfd_write(self.fd, 1)
