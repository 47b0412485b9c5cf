# SPDX-License-Identifier: Apache-2.0
"""The TCP ports of kube-proxy (its health, its metrics, one for each healthCheckNodePort), and the kubelet's probes.

A port that is taken is a problem, and is tried again; nothing else waits for it. The ports are this process's: a load
balancer that probes a node takes it for unhealthy while the agent is down, as with kube-proxy.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kubypass.agent.health import Health
from kubypass.agent.local_endpoints import count_local_ready
from kubypass.agent.log import log
from kubypass.api.answer import Answer, text_answer
from kubypass.api.health_pages import PROXY_MODE, health_answer, service_answer
from kubypass.api.routes import Page, Routes, metrics_answer
from kubypass.api.server import HttpServer, ListenAddress, TcpAddress
from kubypass.api.view import View
from kubypass.kube.snapshot import Snapshot
from kubypass.model.address import (
    UNSPECIFIED,
    Address,
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
"""The name of kube-proxy's event for it."""


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """A healthCheckNodePort, and the number of endpoints that it reports."""

    port: int
    local_endpoints: int


@dataclass(frozen=True, slots=True)
class _Use:
    """What a port is for, and the words of the problem where it cannot be opened."""

    subject: str
    routes: Routes
    hint: str
    reason: str = ""

    def problem(self, address: ListenAddress, why: str) -> Problem:
        where = (
            str(address) if isinstance(address, Path) else f"{in_brackets(address[0])}:{address[1]}"
        )
        message = f"{self.reason}cannot listen on {where}: {why}; {self.hint}; {_AGAIN}"
        return Problem(self.subject, message)


class HttpPorts:
    """Keeps the right ports open. One thread calls this; the server's threads answer."""

    def __init__(self, server: HttpServer, settings: Settings, node: str, health: Health) -> None:
        self._server = server
        self._settings = settings
        self._node = node
        self.health = health
        self._checks: dict[ServiceKey, ServiceCheck] = {}
        self._addresses: tuple[Address, ...] = ()
        self._primary: tuple[Address, ...] = ()
        self._fixed: dict[ListenAddress, _Use] = {}
        self._api: dict[ListenAddress, _Use] = {}
        self._open: set[ListenAddress] = set()
        self._count_lock = threading.Lock()
        self._answers: Counter[tuple[str, int]] = Counter()
        self.problems: tuple[Problem, ...] = ()

    def start(self, settings: Settings, view: View | None = None) -> None:
        """Opens the ports that the settings name; /metrics needs a `view`.

        A second call with other settings closes the ports that these do not name.
        """
        self._settings = settings
        ports: dict[str, tuple[tuple[Address, int] | None, Routes]] = {
            "kube-proxy-replacement-healthz-bind-address": (
                settings.http_ports.proxy_health,
                self._health_routes(),
            ),
            "metrics-bind-address": (
                settings.http_ports.metrics if view else None,
                _metrics_routes(view),
            ),
            "agent-health-port": (
                (_LOOPBACK, settings.http_ports.agent_health)
                if settings.http_ports.agent_health
                else None,
                self._probe_routes(),
            ),
        }
        self._fixed = {}
        for key, (address, routes) in ports.items():
            for address_port in _address_ports(*address, settings) if address else ():
                hint = "free the port (does kube-proxy still run?) or set another"
                self._fixed[address_port] = _Use(f"Setting {key}", routes, hint)
        self._sync()

    def serve_api(self, path: Path, routes: Routes) -> None:
        """Opens the agent's own socket, and opens it again where somebody removes its file."""
        hint = "kubypass status and trace cannot ask this agent until it is there"
        self._api = {path: _Use(f"Socket {path}", routes, hint)}
        self._sync()

    def look(self) -> None:
        """Opens the agent's own socket again if somebody has removed its file."""
        if any(self._server.is_lost(path) for path in self._api):
            log("agent.sock was removed: it is opened again", "WARNING")
            self._sync()

    @property
    def answers(self) -> dict[tuple[str, int], int]:
        """The number of answers by page (healthz, livez) and code."""
        with self._count_lock:
            return dict(self._answers)

    @property
    def ended(self) -> Counter[str]:
        """The number of connections that were ended early, by reason."""
        return self._server.ended

    def follow(
        self,
        snapshot: Snapshot,
        keys: Iterable[ServiceKey],
        addresses: tuple[Address, ...],
        primary: tuple[Address, ...],
    ) -> None:
        """Takes in services that changed, with their endpoints, and the node's addresses, some of them `primary`."""
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
        """Tries again to open the ports that could not be opened."""
        if self.problems:
            self._sync()

    def _sync(self) -> None:
        wanted, problems = self._wanted()
        for gone in self._open - wanted.keys():
            self._server.close(gone)
            self._open.discard(gone)
        for address_port, use in wanted.items():
            try:
                self._server.open(address_port, use.routes)
                self._open.add(address_port)
            except OSError as error:
                self._open.discard(address_port)
                ipv6 = not isinstance(address_port, Path) and address_port[0] == "::"
                if error.errno != errno.EAFNOSUPPORT or not ipv6:
                    problems.append(use.problem(address_port, error.strerror or str(error)))
        self.problems = tuple(problems)

    def _wanted(self) -> tuple[dict[ListenAddress, _Use], list[Problem]]:
        """The ports to open, and a problem for each that two services ask for."""
        wanted = self._api | self._fixed
        problems = []
        hosts = health_check_hosts(self._settings, self._addresses, self._primary)
        for key, check in sorted(self._checks.items()):
            routes = self._service_routes(key, check.local_endpoints)
            use = _Use(f"Service {'/'.join(key)}", routes, "other services go on", _REASON)
            for host in hosts:
                address_port = (host, check.port)
                owner = wanted.setdefault(address_port, use)
                if owner is not use:
                    problems.append(
                        use.problem(address_port, f"the port is that of {owner.subject}")
                    )
        return wanted, problems

    def _health_routes(self) -> Routes:
        """kube-proxy's health: /healthz considers the node as well, /livez does not."""
        return Routes(
            {f"/{name}": partial(self._health_page, name) for name in ("healthz", "livez")}
        )

    def _health_page(self, name: str) -> Answer:
        health = self.health
        answer = health_answer(
            health.now(),
            health.updated,
            healthy=health.is_healthy() and (name == "livez" or health.updated is not None),
            node_eligible=health.node_eligible if name == "healthz" else None,
        )
        with self._count_lock:
            self._answers[name, answer.code] += 1
        return answer

    def _probe_routes(self) -> Routes:
        """The kubelet's probes: is this pod ready (/healthz), and must it be restarted (/livez)?"""
        return Routes({"/healthz": self._readiness_page, "/livez": self._liveness_page})

    def _readiness_page(self) -> Answer:
        waiting = ["waiting for the first complete sync"] if self.health.updated is None else []
        return _probe_answer([*waiting, *self.health.reasons()])

    def _liveness_page(self) -> Answer:
        health = self.health
        alive = health.updated is None or health.is_alive()
        return _probe_answer([] if alive else health.reasons())

    def _service_routes(self, key: ServiceKey, local_endpoints: int) -> Routes:
        """A healthCheckNodePort, which answers on every path."""

        def answer(_: str) -> Answer:
            return service_answer(key, local_endpoints, proxy_healthy=self.health.is_healthy())

        return Routes(otherwise=answer)


def _probe_answer(reasons: list[str]) -> Answer:
    text = "".join(f"{reason}\n" for reason in reasons)
    return text_answer(text, 503) if reasons else text_answer("ok\n")


def _metrics_routes(view: View | None) -> Routes:
    """kube-proxy's metrics port."""
    pages: dict[str, Page] = {
        "/proxyMode": partial(text_answer, PROXY_MODE),
        "/healthz": partial(text_answer, "ok"),
    }
    if view is not None:
        pages["/metrics"] = partial(metrics_answer, view)
    return Routes(pages, quick=view is None)


def health_check_hosts(
    settings: Settings, addresses: Iterable[Address], primary: Collection[Address]
) -> list[str]:
    """The addresses on which healthCheckNodePorts listen: those on which NodePorts answer."""
    found = []
    where = settings.node_ports.addresses
    for version in settings.network.families:
        if where.all_of(version):
            found.append(format_address(UNSPECIFIED[version]))
        else:
            chosen = [a for a in addresses if family(a) == version and where.selects(a, primary)]
            found += [format_address(a) for a in chosen if not is_ipv6_link_local(a)]
    return found


def _address_ports(address: Address, port: int, settings: Settings) -> list[TcpAddress]:
    """The address with the port. The unspecified address of either family means every address, as for Go."""
    found = {format_address(address)}
    if address in UNSPECIFIED.values():
        found |= {format_address(UNSPECIFIED[version]) for version in settings.network.families}
    return [(host, port) for host in sorted(found)]
