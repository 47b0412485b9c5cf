# SPDX-License-Identifier: Apache-2.0
"""Waits for events and timers, and tells the agent."""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from kubypass.agent.agent import SWEEP_S, Agent
from kubypass.agent.http_ports import RETRY_S
from kubypass.kernel.inotify import Watch
from kubypass.kernel.netlink import Monitor

_LOOK_S = 1.0
"""Between looks at what programs have noted."""


class Loop:
    """Waits for events and timers until a signal ends it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._selector = selectors.DefaultSelector()
        self._manifests = Watch()
        self._pods = Watch()
        self._monitor = Monitor()
        self._running = True
        self._changed = False
        """Devices, addresses or pods have."""
        self._wake, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        self._wakeup = wakeup
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.set_wakeup_fd(wakeup.fileno())

    def _stop(self, *_: object) -> None:
        self._running = False

    def _watch_manifests(self) -> None:
        for directory in self._agent.source.directories:
            self._manifests.add(Path(directory))

    def watch(self) -> None:
        """Starts watching; to be called before the first look, so that no change falls between."""
        source = self._agent.source.path
        self._manifests.add(source if source.is_dir() else source.parent)
        self._pods.add(self._agent.options.run / "pods")

    def run(self) -> None:
        """Serves events until SIGTERM or SIGINT."""
        self._watch_manifests()
        handlers = self._handlers()
        next_check = time.monotonic() + self._agent.options.check_every_s
        next_sweep = time.monotonic() + SWEEP_S
        next_look = time.monotonic() + _LOOK_S
        next_retry = time.monotonic() + RETRY_S
        while self._running:
            due = min(next_check, next_sweep, next_retry, next_look, self._agent.stale.due)
            wait = max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(wait):
                with self._agent.health.update():
                    handlers[key.fd]()
            self._look_again()
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + self._agent.sweep()
            if now >= self._agent.stale.due:
                self._agent.stale.step()
            if now >= next_look:
                self._agent.binds.look()
                next_look = time.monotonic() + _LOOK_S
            if now >= next_retry:
                self._agent.ports.retry()
                next_retry = time.monotonic() + RETRY_S
            if now >= next_check:
                with self._agent.health.update():
                    self._on_manifests()  # what an event tells is not missed
                    self._agent.full_check()
                next_check = time.monotonic() + self._agent.options.check_every_s

    def _handlers(self) -> dict[int, Callable[[], None]]:
        """What to do when a descriptor is readable."""
        handlers: dict[int, Callable[[], None]] = {
            self._manifests.fd: self._on_manifests,
            self._pods.fd: self._on_pods,
            self._monitor.fd: self._on_monitor,
            self._wake.fileno(): lambda: None,
        }
        pod_network = self._agent.pod_network
        if pod_network.fd is not None:
            handlers[pod_network.fd] = pod_network.serve
        for fd in handlers:
            self._selector.register(fd, selectors.EVENT_READ)
        return handlers

    def _look_again(self) -> None:
        """Once for all events of a round."""
        if self._changed:
            self._changed = False
            with self._agent.health.update():
                self._agent.on_network()

    def _on_manifests(self) -> None:
        paths = self._manifests.read()
        if paths is None or paths:
            before = self._agent.source.directories
            self._agent.on_manifests(paths)
            if self._agent.source.directories != before:
                self._watch_manifests()
                self._agent.on_manifests(None)

    def _on_pods(self) -> None:
        self._pods.read()
        self._changed = True

    def _on_monitor(self) -> None:
        self._monitor.drain()
        self._changed = True
