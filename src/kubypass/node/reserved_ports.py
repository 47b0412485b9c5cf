# SPDX-License-Identifier: Apache-2.0
"""Reserves the NodePorts, so that no socket gets one as its ephemeral port, and gives back what was reserved."""

from __future__ import annotations

from collections.abc import Iterator

from kubypass.kernel import sysctl
from kubypass.model.port_range import LINUX_EPHEMERAL, Ports
from kubypass.node.record import Change, Kind, Record
from kubypass.settings.settings import Settings

_RESERVED = "net.ipv4.ip_local_reserved_ports"
_EPHEMERAL = "net.ipv4.ip_local_port_range"
_FEWEST = 1024
"""The fewest ephemeral ports that have to be left: connections to one server from one address need one each."""


def reserve_node_ports(record: Record, settings: Settings) -> int:
    """Reserves the NodePorts that are ephemeral ports as well; returns how many sysctls were changed."""
    if not (settings.services.with_node_ports and settings.node_ports.reserve_range):
        return 0
    ephemeral, reserved = ephemeral_ports(), sysctl.read(_RESERVED)
    if reserved is None:
        return 0
    ours = shared_ports(settings, ephemeral)
    if (
        not ours
        or ours <= _ports(reserved)
        or too_few_left(settings, ephemeral, reserved) is not None
    ):
        return 0
    text = _text(ours)
    record.add(Change(Kind.RESERVED_PORTS, text, reserved))
    sysctl.write(_RESERVED, f"{reserved},{text}".lstrip(","))
    return 1


def release_node_ports(change: Change) -> list[str]:
    """Gives back the ports of a record; those that were reserved before, and those that others added since, stay."""
    reserved = _ports(sysctl.read(_RESERVED) or "")
    ours = (_ports(change.subject) - _ports(change.before)) & reserved
    if not ours:
        return []
    sysctl.write(_RESERVED, _text(reserved - ours))
    return [f"took {_text(ours)} out of {_RESERVED}"]


def ephemeral_ports() -> Ports:
    """The first and the last port that the kernel gives to sockets that ask for none."""
    text = sysctl.read(_EPHEMERAL)
    if text is None:
        return LINUX_EPHEMERAL
    first, last = text.split()
    return int(first), int(last)


def shared_ports(settings: Settings, ephemeral: Ports) -> set[int]:
    """The NodePorts that are ephemeral ports as well."""
    first, last = settings.node_ports.port_range
    return set(range(max(first, ephemeral[0]), min(last, ephemeral[1]) + 1))


def too_few_left(settings: Settings, ephemeral: Ports, reserved: str | None = None) -> int | None:
    """How many ephemeral ports would be left without the NodePorts, where these are too few; None where it is fine."""
    shared = shared_ports(settings, ephemeral)
    taken = _ports((sysctl.read(_RESERVED) or "") if reserved is None else reserved)
    left = len(set(range(ephemeral[0], ephemeral[1] + 1)) - shared - taken)
    return left if shared and left < _FEWEST else None


def _ports(text: str) -> set[int]:
    """The ports of the kernel's list of ports and ranges."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        begin, _, end = part.partition("-")
        found.update(range(int(begin), int(end or begin) + 1))
    return found


def _text(ports: set[int]) -> str:
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in _ranges(sorted(ports)))


def _ranges(ports: list[int]) -> Iterator[tuple[int, int]]:
    begin = 0
    for at in range(1, len(ports) + 1):
        if at == len(ports) or ports[at] != ports[at - 1] + 1:
            yield ports[begin], ports[at - 1]
            begin = at
