# SPDX-License-Identifier: Apache-2.0
"""Waits for events and timers, and calls the agent."""

from __future__ import annotations

import gc
import selectors
import time
from collections.abc import Callable

from kubypass.agent.agent import Agent
from kubypass.agent.http_ports import RETRY_S
from kubypass.agent.running import SWEEP_S, Running
from kubypass.agent.signals import Signals
from kubypass.kernel.inotify import Watch
from kubypass.kernel.monitor import Monitor

_LOOK_S = 1.0
"""Between looks at what programs have noted."""
_CALM = 3
"""How much longer than a look at the network the time until the next one is."""


class Loop:
    """Waits for events and timers until a signal ends it."""

    def __init__(self, agent: Agent, signals: Signals) -> None:
        self._agent = agent
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._pods = Watch()
        self._monitor = Monitor()
        self._changed = False
        """Whether devices, addresses or pods have changed."""
        self._routes_changed = False
        self._calm = 0.0
        """The time of the next look at the network, so that a flood of changes costs only a part of a CPU."""

    def watch(self) -> None:
        """Starts watching. It comes before the first look, so that no change is missed between the two."""
        self._pods.add(self._agent.options.run / "pods")

    def wait(self) -> bool:
        """Waits for the source to be complete, for as long as its API is away; False: a signal came first."""
        agent = self._agent
        while not agent.source.complete and not self._signals.stopped:
            if self._signals.wait(agent.source.fd, RETRY_S):
                agent.take()
            else:
                gc.collect()  # switched off while objects come
            agent.ports.retry()
            agent.problem_log.look(agent.ports.problems)
        return not self._signals.stopped

    def run(self, running: Running) -> None:
        """Serves events until SIGTERM or SIGINT."""
        agent, health = self._agent, self._agent.health
        handlers = self._handlers(running)
        next_check = time.monotonic() + agent.options.check_every_s
        next_sweep = time.monotonic() + SWEEP_S
        next_look = time.monotonic() + _LOOK_S
        next_retry = time.monotonic() + RETRY_S
        while not self._signals.stopped:
            if running.programs.sweep.urgent:
                next_sweep = time.monotonic()
            due = min(next_check, next_sweep, next_retry, next_look, running.stale.due)
            if self._changed:
                due = min(due, self._calm)
            wait = max(0.0, due - time.monotonic())
            for key, _ in self._selector.select(wait):
                with health.update():
                    handlers[key.fd]()
            self._look_again(running)
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + running.sweep()
            if now >= running.stale.due:
                running.stale.step()
            if now >= next_look:
                running.look()
                next_look = time.monotonic() + _LOOK_S
            if now >= next_retry:
                agent.retry()
                next_retry = time.monotonic() + RETRY_S
            if now >= next_check:
                with health.update():
                    running.on_source()  # an event that is waiting is no missed change
                    running.full_check()
                next_check = time.monotonic() + agent.options.check_every_s

    def _handlers(self, running: Running) -> dict[int, Callable[[], None]]:
        """What to call when a descriptor is readable."""
        handlers: dict[int, Callable[[], None]] = {
            self._agent.source.fd: running.on_source,
            self._pods.fd: self._on_pods,
            self._monitor.fd: self._on_monitor,
            self._signals.fd: lambda: None,
        }
        if running.pod_network:
            handlers[running.pod_network.fd] = running.pod_network.serve
        for fd in handlers:
            self._selector.register(fd, selectors.EVENT_READ)
        return handlers

    def _look_again(self, running: Running) -> None:
        """Looks at the network once for all events of a round."""
        started = time.monotonic()
        if self._changed and started >= self._calm:
            routes, self._changed, self._routes_changed = self._routes_changed, False, False
            with self._agent.health.update():
                running.on_network(routes=routes)
            self._monitor.expect(*self._agent.node.devices_for_routes)
            now = time.monotonic()
            self._calm = now + _CALM * (now - started)

    def _on_pods(self) -> None:
        self._pods.read()
        self._changed = True

    def _on_monitor(self) -> None:
        seen = self._monitor.read()
        self._changed |= seen.devices or seen.routes
        self._routes_changed |= seen.routes
