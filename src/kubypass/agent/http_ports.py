# SPDX-License-Identifier: Apache-2.0
"""The TCP ports that kube-proxy has (the proxy's health, metrics, one for each healthCheckNodePort), and the kubelet's.

A port that is taken is a problem, and is tried again; nothing else waits for it. They are of this process: a load
balancer that probes a node takes it for unhealthy while the agent is down, as with kube-proxy.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

from kubypass.agent.health import Health
from kubypass.agent.local_endpoints import count_local_ready
from kubypass.agent.log import log
from kubypass.api.health_pages import (
    PROXY_MODE,
    Answer,
    health_answer,
    not_found,
    service_answer,
    text_answer,
)
from kubypass.api.listeners import Listeners, Page, Place
from kubypass.api.metric import KIND, render
from kubypass.api.view import View
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import (
    UNSPECIFIED,
    Address,
    Family,
    family,
    format_address,
    in_brackets,
    is_ipv6_link_local,
    parse_address,
)
from kubypass.model.problem import Problem
from kubypass.model.service import ServiceKey
from kubypass.settings.settings import Settings

RETRY_S = 5.0
_AGAIN = f"tried again every {RETRY_S:.0f} s"
_LOOPBACK = parse_address("127.0.0.1")
_REASON = "FailedToStartServiceHealthcheck: "
"""kube-proxy's event of that name."""


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """What a healthCheckNodePort tells, and where."""

    port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class _Use:
    """Who a port is for, and what is said where it cannot be opened."""

    subject: str
    page: Page
    hint: str
    reason: str = ""

    def problem(self, place: Place, why: str) -> Problem:
        where = f"{in_brackets(place[0])}:{place[1]}"
        message = f"{self.reason}cannot listen on {where}: {why}; {self.hint}; {_AGAIN}"
        return Problem(self.subject, message)


class HttpPorts:
    """What is open, and what should be. One thread calls this; pages answer in others."""

    def __init__(self, settings: Settings, node: str, health: Health) -> None:
        self._settings = settings
        self._node = node
        self.health = health
        self._checks: dict[ServiceKey, ServiceCheck] = {}
        self._addresses: tuple[Address, ...] = ()
        self._primary: tuple[Address, ...] = ()
        self._fixed: dict[Place, _Use] = {}
        self._listeners: Listeners | None = None
        self._count_lock = threading.Lock()
        self._answers: Counter[tuple[str, int]] = Counter()
        self.problems: tuple[Problem, ...] = ()

    def start(self, settings: Settings, view: View | None = None) -> None:
        """Opens the proxy's own ports; `view` is what /metrics shows, None where it cannot be told yet.

        Once more with other settings: what these do not open is closed.
        """
        self._settings = settings
        self._listeners = self._listeners or Listeners()
        pages: dict[str, tuple[tuple[Address, int] | None, Page]] = {
            "kube-proxy-replacement-healthz-bind-address": (
                settings.http_ports.proxy_health,
                self._health_page,
            ),
            "metrics-bind-address": (
                settings.http_ports.metrics if view else None,
                partial(self._metrics_page, view),
            ),
            "agent-health-port": (
                (_LOOPBACK, settings.http_ports.agent_health)
                if settings.http_ports.agent_health
                else None,
                self._probe_page,
            ),
        }
        self._fixed = {}
        for key, (address, page) in pages.items():
            for place in _places(*address, settings) if address else ():
                hint = "free the port (does kube-proxy still run?) or set another"
                self._fixed[place] = _Use(f"Setting {key}", page, hint)
        self._sync()

    def stop(self) -> None:
        """Closes all."""
        if self._listeners:
            self._listeners.stop()

    @property
    def answers(self) -> dict[tuple[str, int], int]:
        """How often /healthz and /livez (without the slash) were answered with which code."""
        with self._count_lock:
            return dict(self._answers)

    def follow(
        self,
        snapshot: Snapshot,
        keys: Iterable[ServiceKey],
        addresses: tuple[Address, ...],
        primary: tuple[Address, ...],
    ) -> None:
        """These services changed, or their endpoints; `addresses` are the node's, some of them `primary`."""
        before = dict(self._checks)
        moved = (addresses, primary) != (self._addresses, self._primary)
        self._addresses, self._primary = addresses, primary
        for key in keys:
            service = snapshot.services.get(key)
            if service is None or not service.health_check_port:
                self._checks.pop(key, None)
                continue
            slices = snapshot.slices.get(key, ())
            count = count_local_ready(service, slices, self._node, self._settings)
            self._checks[key] = ServiceCheck(service.health_check_port, count)
        if moved or self._checks != before:
            self._sync()

    def retry(self) -> None:
        """Tries what could not be opened."""
        if self.problems:
            self._sync()

    def _sync(self) -> None:
        if self._listeners is None:
            return
        wanted = dict(self._fixed)
        problems = []
        hosts = health_check_hosts(self._settings, self._addresses, self._primary)
        for key, check in sorted(self._checks.items()):
            page = partial(self._service_page, key, check.local_endpoints)
            use = _Use(f"Service {'/'.join(key)}", page, "other services go on", _REASON)
            for host in hosts:
                place = (host, check.port)
                owner = wanted.setdefault(place, use)
                if owner is not use:
                    problems.append(use.problem(place, f"the port is that of {owner.subject}"))
        failed = self._listeners.sync({place: use.page for place, use in wanted.items()})
        for place, error in failed.items():
            if error.errno != errno.EAFNOSUPPORT or place[0] != "::":
                problems.append(wanted[place].problem(place, error.strerror or str(error)))
        for problem in problems:
            if problem not in self.problems:
                log("problem", "WARNING", subject=problem.subject, message=problem.message)
        self.problems = tuple(problems)

    def _health_page(self, path: str) -> Answer:
        health = self.health
        name = path.removeprefix("/")
        if name not in {"healthz", "livez"}:
            return not_found()
        answer = health_answer(
            health.now(),
            health.updated,
            healthy=health.is_healthy() and (name == "livez" or health.updated is not None),
            node_eligible=health.node_eligible if name == "healthz" else None,
        )
        with self._count_lock:
            self._answers[name, answer.code] += 1
        return answer

    def _probe_page(self, path: str) -> Answer:
        """The kubelet's: is this pod ready, and is it to be started again?"""
        health = self.health
        waiting = health.updated is None
        if path == "/livez":
            healthy = waiting or health.is_healthy()
        elif path == "/healthz":
            healthy = not waiting and health.is_healthy()
        else:
            return not_found()
        late = "the first complete sync" if waiting else "a change to be applied"
        return text_answer("ok\n") if healthy else text_answer(f"waiting for {late}\n", 503)

    def _metrics_page(self, view: View | None, path: str) -> Answer:
        if path == "/metrics" and view is not None:
            return Answer(200, render(view), KIND)
        pages = {"/proxyMode": PROXY_MODE, "/healthz": "ok"}
        return text_answer(pages[path]) if path in pages else not_found()

    def _service_page(self, key: ServiceKey, local_endpoints: int, _: str) -> Answer:
        return service_answer(key, local_endpoints, proxy_healthy=self.health.is_healthy())


def health_check_hosts(
    settings: Settings, addresses: Iterable[Address], primary: Collection[Address]
) -> list[str]:
    """Where healthCheckNodePorts listen: where NodePorts answer."""
    found = []
    versions: tuple[Family, ...] = (4, 6)
    where = settings.node_ports.addresses
    for version in filter(settings.network.has_family, versions):
        if where.all_of(version):
            found.append(format_address(UNSPECIFIED[version]))
        else:
            chosen = [a for a in addresses if family(a) == version and where.selects(a, primary)]
            found += [format_address(a) for a in chosen if not is_ipv6_link_local(a)]
    return found


def _places(address: Address, port: int, settings: Settings) -> list[Place]:
    """The address; the unspecified one of either family means every address, as for Go."""
    found = {format_address(address)}
    if address in UNSPECIFIED.values():
        versions: tuple[Family, ...] = (4, 6)
        found |= {
            format_address(UNSPECIFIED[v]) for v in versions if settings.network.has_family(v)
        }
    return [(host, port) for host in sorted(found)]
