# SPDX-License-Identifier: Apache-2.0
"""Waits for events and timers, and calls the agent."""

from __future__ import annotations

import gc
import math
import selectors
import time
from collections.abc import Callable

from kubypass.agent.agent import Agent
from kubypass.agent.attempts import Part
from kubypass.agent.http_ports import RETRY_S
from kubypass.agent.report.problem_groups import group_problems
from kubypass.agent.running import SWEEP_S, Running
from kubypass.agent.signals import Signals
from kubypass.kernel.inotify import Watch
from kubypass.kernel.monitor import Monitor
from kubypass.node.routes import ROUTE_PROTOCOL

_LOOK_S = 1.0
"""Between looks at what programs have noted."""
_CALM, _LONGEST_CALM_S = 3, 2.0
"""How much longer than a look at the network the time until the next one is, and the most that it is."""


class Loop:
    """Waits for events and timers until a signal ends it."""

    def __init__(self, agent: Agent, signals: Signals) -> None:
        self._agent = agent
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._pods = Watch()
        self._monitor = Monitor(route_protocol=ROUTE_PROTOCOL, filters=not agent.features.tcx)
        self._changed = False
        """Whether devices, addresses or pods have changed."""
        self._handlers: dict[int, tuple[Part, Callable[[], object]]] = {}
        self._left_alone: set[int] = set()
        """Descriptors whose events could not be served: they would be readable for ever."""
        self._next_check = self._next_sweep = self._next_look = self._next_retry = 0.0
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
            agent.problem_log.look(group_problems(agent.ports.problems))
        return not self._signals.stopped

    def run(self, running: Running) -> None:
        """Serves events until SIGTERM or SIGINT. Whatever fails is tried again; nothing but a signal ends this."""
        agent = self._agent
        self._handlers = self._make_handlers(running)
        self._next_check = time.monotonic() + agent.options.check_every_s
        self._next_sweep = time.monotonic() + SWEEP_S
        self._next_look = time.monotonic()
        self._next_retry = time.monotonic() + RETRY_S
        self._changed = True  # whatever the first sync could not do is tried again
        while not self._signals.stopped:
            agent.health.beat()
            if running.programs.sweep.urgent and agent.attempts.may(Part.FLOWS):
                self._next_sweep = time.monotonic()
            self._serve_events(running)
            self._look_again(running)
            self._keep_time(running)

    def _due(self, running: Running) -> float:
        due = min(self._next_check, self._next_sweep, self._next_retry, self._next_look)
        if self._changed or running.disturbed or running.network_due:
            due = min(due, self._calm)
        return min(due, running.stale.due if self._agent.attempts.may(Part.SOCKETS) else math.inf)

    def _do(self, part: Part, work: Callable[[], object], *, news: bool = False) -> bool:
        """Does a part of the work, unless it failed a moment ago and there is no news."""
        agent = self._agent
        if not (news or agent.attempts.may(part)):
            return False
        agent.health.doing = part
        return agent.attempts.run(part, work, news=news)

    def _serve_events(self, running: Running) -> None:
        """Waits for events and serves them. What cannot be served now is left alone until it is tried again."""
        for fd, (part, _) in self._handlers.items():
            if fd in self._left_alone and self._agent.attempts.may(part):
                self._selector.register(fd, selectors.EVENT_READ)
                self._left_alone.discard(fd)
        for key, _ in self._selector.select(max(0.0, self._due(running) - time.monotonic())):
            part, work = self._handlers[key.fd]
            if not self._do(part, work):
                self._selector.unregister(key.fd)
                self._left_alone.add(key.fd)

    def _keep_time(self, running: Running) -> None:
        """Does what is due by the clock."""
        agent, now = self._agent, time.monotonic()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._do(Part.FLOWS, lambda: self._sweep(running))
        if now >= running.stale.due:
            self._do(Part.SOCKETS, running.stale.step)
        if now >= self._next_look:
            self._do(Part.FORWARDING, running.keep_forwarding, news=True)
            self._do(Part.KERNEL, running.look_at_kernel)
            if running.pod_network:
                self._do(Part.FILES, running.pod_network.keep)
            self._do(Part.LOOK, running.look)
            self._next_look = time.monotonic() + _LOOK_S
        if now >= self._next_retry:
            self._do(Part.RETRY, agent.retry)
            self._next_retry = time.monotonic() + RETRY_S
        if running.disturbed and time.monotonic() >= self._calm:
            self._follow_network(running.repair, news=True)
        elif agent.attempts.due(Part.NETWORK):
            self._follow_network(running.repair, news=False)
        if now >= self._next_check or agent.attempts.due(Part.CLUSTER, Part.SERVICES):
            self._check(running)
            self._next_check = time.monotonic() + agent.options.check_every_s

    def _sweep(self, running: Running) -> None:
        self._next_sweep = time.monotonic() + running.sweep()

    def _check(self, running: Running) -> None:
        """Looks at everything, in parts, so that one that fails keeps no other from its check."""
        self._do(
            Part.CLUSTER, self._updating(Part.CLUSTER, running.on_source)
        )  # a waiting event is no missed change
        self._do(Part.SERVICES, self._updating(Part.SERVICES, running.check_services))
        self._do(Part.NETWORK, self._updating(Part.NETWORK, running.repair))

    def _updating(self, part: Part, work: Callable[[], object]) -> Callable[[], object]:
        """The work as a change that has come in: the proxy is not healthy while it waits too long."""

        def update() -> object:
            with self._agent.health.update(part):
                return work()

        return update

    def _make_handlers(self, running: Running) -> dict[int, tuple[Part, Callable[[], object]]]:
        """What to call when a descriptor is readable."""
        handlers: dict[int, tuple[Part, Callable[[], object]]] = {
            self._agent.source.fd: (
                Part.CLUSTER,
                self._updating(Part.CLUSTER, running.on_source),
            ),
            self._pods.fd: (Part.EVENTS, self._on_pods),
            self._monitor.fd: (Part.EVENTS, lambda: self._on_monitor(running)),
            self._signals.fd: (Part.EVENTS, lambda: None),
        }
        if running.pod_network:
            handlers[running.pod_network.fd] = (Part.PLUGIN, running.pod_network.serve)
        for fd in handlers:
            self._selector.register(fd, selectors.EVENT_READ)
        return handlers

    def _look_again(self, running: Running) -> None:
        """Looks at the network once for all events of a round: they are news, whatever failed before."""
        if (self._changed or running.network_due) and time.monotonic() >= self._calm:
            routes = self._routes_changed or running.network_due
            self._changed = self._routes_changed = False
            self._follow_network(lambda: running.on_network(routes=routes), news=True)
            self._monitor.expect(*self._agent.node.devices_for_routes)

    def _follow_network(self, work: Callable[[], object], *, news: bool) -> None:
        started = time.monotonic()
        self._do(Part.NETWORK, self._updating(Part.NETWORK, work), news=news)
        now = time.monotonic()
        self._calm = now + min(_CALM * (now - started), _LONGEST_CALM_S)

    def _on_pods(self) -> None:
        self._changed = True
        self._pods.read()

    def _on_monitor(self, running: Running) -> None:
        seen = self._monitor.read()
        self._changed |= seen.devices or seen.routes
        self._routes_changed |= seen.routes
        if seen.undone:
            running.disturb("a route or a filter was removed")
        elif seen.sysctls:
            running.put_sysctls_back()
