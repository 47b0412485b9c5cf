# SPDX-License-Identifier: Apache-2.0
"""Reports processes of the node that use a NodePort: the service has the port, and the process is named.

The programs of bind.bpf.c refuse a process that comes later. A process that came earlier goes on listening, but gets
no clients that connect to an address of the node; it is a problem until it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kubypass.agent.log import log
from kubypass.datapath.config import localhost_node_ports
from kubypass.datapath.refused_binds import RefusedBind, read_refused_binds
from kubypass.errors import KernelError
from kubypass.kernel import sockdiag
from kubypass.kernel.bpf import Map
from kubypass.kernel.processes import socket_holders
from kubypass.kernel.sockdiag import SockDiag
from kubypass.model.address import (
    UNSPECIFIED,
    Address,
    family,
    family_bit,
    format_address_port,
    is_loopback,
    mapped_address,
)
from kubypass.model.problem import Problem
from kubypass.model.protocol import Protocol
from kubypass.model.service import Service, ServiceKey
from kubypass.settings.settings import Settings

SHOWN_S = 600
"""How long a refusal is a problem."""
_LISTENING = {Protocol.TCP: (sockdiag.LISTEN,), Protocol.UDP: (sockdiag.CLOSE,)}
_Port = tuple[Protocol, int]


class _Listener(NamedTuple):
    """A socket that listens on a NodePort."""

    protocol: Protocol
    port: int
    address: Address
    inode: int


class BindProtection:
    """Knows which service has which NodePort. One thread calls it; other threads read `problems`."""

    def __init__(
        self,
        settings: Settings,
        refused_binds: Map,
        announce: Callable[[ServiceKey, str, str], None],
    ) -> None:
        self._announce = announce
        self._on = settings.services.with_node_ports and settings.node_ports.bind_protection
        self._refused_binds = refused_binds
        self._loopback = localhost_node_ports(settings)
        self._ports: dict[ServiceKey, tuple[_Port, ...]] = {}
        self._owners: dict[_Port, ServiceKey] = {}
        self._addresses: frozenset[Address] = frozenset()
        self._known: dict[int, tuple[int, str]] = {}
        self._seen: dict[_Port, int] = {
            (bind.protocol, bind.port): bind.at_ns for bind in read_refused_binds(refused_binds)
        }
        self._listening: tuple[Problem, ...] = ()
        self._refused: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems that the last look found."""
        return (*self._listening, *self._refused)

    def follow(
        self,
        services: Mapping[ServiceKey, Service],
        keys: Iterable[ServiceKey],
        addresses: Iterable[Address],
    ) -> None:
        """Takes in services that changed, and the node's `addresses` on which NodePorts answer."""
        if not self._on:
            return
        before, here = self._owners.keys(), frozenset(addresses)
        for key in keys:
            service = services.get(key)
            ports = service.ports if service else ()
            found = tuple((port.protocol, port.node_port) for port in ports if port.node_port)
            if found != self._ports.get(key, ()):
                self._ports[key] = found
                self._owners = {}
        if not self._owners:
            self._owners = {port: owner for owner, some in self._ports.items() for port in some}
        if here != self._addresses or self._owners.keys() != before:
            self._addresses = here
            self._look_for_listeners()

    def look(self) -> None:
        """Looks for new refusals, and for listeners that have gone."""
        if not self._on:
            return
        if self._listening:
            self._look_for_listeners()
        owners, now_ns = self._owners, time.monotonic_ns()
        problems = []
        for bind in read_refused_binds(self._refused_binds):
            problem = _refusal(bind, owners)
            if self._seen.get((bind.protocol, bind.port)) != bind.at_ns:
                self._seen[bind.protocol, bind.port] = bind.at_ns
                log("bind refused", "WARNING", subject=problem.subject, message=problem.message)
                if owner := owners.get((bind.protocol, bind.port)):
                    self._announce(owner, "NodePortBindRefused", problem.message)
            if now_ns - bind.at_ns < SHOWN_S * 10**9:
                problems.append(problem)
        self._refused = tuple(problems)

    def _look_for_listeners(self) -> None:
        owners = self._owners
        try:
            found = [each for each in _listeners() if self._takes(each)]
            unknown = [each.inode for each in found if each.inode not in self._known]
            if unknown:
                self._known.update(socket_holders(unknown))
        except (OSError, KernelError) as error:
            log("listening sockets cannot be read", "WARNING", reason=error)
            return
        self._known = {each.inode: self._known.get(each.inode, (0, "")) for each in found}
        problems = [_conflict(each, *self._known[each.inode], owners) for each in found]
        self._listening = tuple(problems)

    def _takes(self, listener: _Listener) -> bool:
        address = listener.address
        if (listener.protocol, listener.port) not in self._owners:
            return False
        if is_loopback(address):
            return bool(self._loopback & family_bit(family(address)))
        return address in UNSPECIFIED.values() or address in self._addresses


def _listeners() -> list[_Listener]:
    with SockDiag() as diag:
        return sorted(
            _Listener(protocol, found.port, mapped_address(found.address), found.inode)
            for protocol, states in _LISTENING.items()
            for found in diag.sockets(protocol, states)
            if found.port and found.inode
        )


def _service(port: _Port, owners: Mapping[_Port, ServiceKey]) -> str:
    key = owners.get(port)
    name = f"Service {'/'.join(key)}" if key else "A service that is gone"
    return f"{name} (node port {port[1]}/{port[0].name})"


def _conflict(
    listener: _Listener, pid: int, command: str, owners: Mapping[_Port, ServiceKey]
) -> Problem:
    address = format_address_port(listener.address, listener.port)
    who = f"{command} (pid {pid})" if pid else "a process that is not in the node's namespace"
    message = (
        f"{who} listens on {address} already and gets no clients: the service has the port; "
        "end the process, or give one of them another port"
    )
    return Problem(_service((listener.protocol, listener.port), owners), message)


def _refusal(bind: RefusedBind, owners: Mapping[_Port, ServiceKey]) -> Problem:
    address = format_address_port(bind.address, bind.port)
    times = f", {bind.times} times" if bind.times > 1 else ""
    message = (
        f"{bind.command} (pid {bind.pid}) was not let listen on {address}{times}: the service has the "
        "port; give the process another one, or set node-port-bind-protection: false"
    )
    return Problem(_service((bind.protocol, bind.port), owners), message)
