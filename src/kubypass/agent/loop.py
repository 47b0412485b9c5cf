# SPDX-License-Identifier: Apache-2.0
"""Waits for events and timers, and tells the agent."""

from __future__ import annotations

import gc
import selectors
import time
from collections.abc import Callable

from kubypass.agent.agent import SWEEP_S, Agent
from kubypass.agent.http_ports import RETRY_S
from kubypass.agent.signals import Signals
from kubypass.kernel.inotify import Watch
from kubypass.kernel.netlink import Monitor

_LOOK_S = 1.0
"""Between looks at what programs have noted."""


class Loop:
    """Waits for events and timers until a signal ends it."""

    def __init__(self, agent: Agent, signals: Signals) -> None:
        self._agent = agent
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._pods = Watch()
        self._monitor = Monitor()
        self._changed = False
        """Devices, addresses or pods have."""

    def watch(self) -> None:
        """Starts watching; to be called before the first look, so that no change falls between."""
        self._pods.add(self._agent.options.run / "pods")

    def wait(self) -> bool:
        """Until the source has everything, which may take as long as an API is away; False: a signal came first."""
        agent = self._agent
        while not agent.source.complete and not self._signals.stopped:
            if self._signals.wait(agent.source.fd, RETRY_S):
                agent.take()
            else:
                gc.collect()  # switched off while objects come
            agent.ports.retry()
        return not self._signals.stopped

    def run(self) -> None:
        """Serves events until SIGTERM or SIGINT."""
        handlers = self._handlers()
        next_check = time.monotonic() + self._agent.options.check_every_s
        next_sweep = time.monotonic() + SWEEP_S
        next_look = time.monotonic() + _LOOK_S
        next_retry = time.monotonic() + RETRY_S
        while not self._signals.stopped:
            if self._agent.sweep_is_urgent:
                next_sweep = time.monotonic()
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
                self._agent.retry()
                next_retry = time.monotonic() + RETRY_S
            if now >= next_check:
                with self._agent.health.update():
                    self._agent.on_source()  # what an event tells is not missed
                    self._agent.full_check()
                next_check = time.monotonic() + self._agent.options.check_every_s

    def _handlers(self) -> dict[int, Callable[[], None]]:
        """What to do when a descriptor is readable."""
        handlers: dict[int, Callable[[], None]] = {
            self._agent.source.fd: self._agent.on_source,
            self._pods.fd: self._on_pods,
            self._monitor.fd: self._on_monitor,
            self._signals.fd: lambda: None,
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

    def _on_pods(self) -> None:
        self._pods.read()
        self._changed = True

    def _on_monitor(self) -> None:
        self._monitor.drain()
        self._changed = True
