# SPDX-License-Identifier: Apache-2.0
"""Plans the source ports of masqueraded connections whose own port is taken.

They are best clear of NodePorts and of the node's ephemeral ports. The programs cope with an overlap (a socket of the
node has precedence), but each side then takes ports from the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubypass.model.port_range import LAST_PORT, LINUX_EPHEMERAL, Ports
from kubypass.model.problem import Problem
from kubypass.settings.parse import FIRST_NAT_PORT
from kubypass.settings.settings import Settings

_ABOVE_LINUX = (LINUX_EPHEMERAL[1] + 1, LAST_PORT)
"""The ports above Linux's default ephemeral ports."""
_ENOUGH = 1024
"""With this many ports above the ephemeral ones, a larger range below, where daemons listen, is not chosen."""
_SUBJECT = "SNAT"


@dataclass(frozen=True, slots=True)
class SnatPorts:
    """The ranges of source ports in effect."""

    main: Ports
    extra: Ports | None
    """The range of the setting node-port-nat-range-ext."""

    @property
    def count(self) -> int:
        """The number of ports in all ranges."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def ranges(self) -> tuple[Ports, ...]:
        """The main range, then the extra one if there is one."""
        return (self.main, self.extra) if self.extra else (self.main,)

    def __str__(self) -> str:
        return ", ".join(f"{first}-{last}" for first, last in self.ranges)


def plan_snat_ports(settings: Settings, ephemeral: Ports) -> tuple[SnatPorts, tuple[Problem, ...]]:
    """Plans the ports, and problems for the operator. `ephemeral` is net.ipv4.ip_local_port_range."""
    extra, node_ports = settings.masquerade.extra_ports, settings.node_ports.port_range
    taken = [node_ports, *([extra] if extra else [])]
    gaps = _gaps([*taken, ephemeral])
    if gaps:
        above = [gap for gap in gaps if gap[0] > ephemeral[1] and _size(gap) >= _ENOUGH]
        ports = SnatPorts(above[-1] if above else max(gaps, key=_size), extra)
    elif extra:
        ports = SnatPorts(extra, None)
    else:
        first, last = max(_gaps(taken) or [_ABOVE_LINUX], key=_size)
        ports = SnatPorts((max(first, last - _size(_ABOVE_LINUX) + 1), last), None)
    problems = [
        _overlap(one, ephemeral)
        for one in ports.ranges
        if one[0] <= ephemeral[1] and one[1] >= ephemeral[0]
    ]
    if ports.count < _ENOUGH:
        problems.append(
            Problem(
                _SUBJECT,
                f"only {ports.count} source ports ({ports}) are clear of node-port-range "
                f"{_text(node_ports)} and of the node's ephemeral ports {_text(ephemeral)}: narrow "
                "net.ipv4.ip_local_port_range, or add ports with node-port-nat-range-ext",
            )
        )
    return ports, tuple(problems)


def more_ports_advice(settings: Settings, ephemeral: Ports) -> str:
    """How to get more source ports, and how many: a whole sentence's end."""
    ports, _ = plan_snat_ports(settings, ephemeral)
    extra = settings.masquerade.extra_ports
    gaps = _gaps([settings.node_ports.port_range, ports.main, ephemeral])
    best = max(gaps, key=_size, default=None)
    more = _size(best) - (_size(extra) if extra else 0) if best else 0
    spread = "spread the service over more backends"
    if best and more > 0:
        return f"node-port-nat-range-ext: {best[0]},{best[1]} adds {more} ports to {ports.count}; or {spread}"
    return f"all {ports.count} ports that can be had are in use: narrow net.ipv4.ip_local_port_range, or {spread}"


def _gaps(taken: Iterable[Ports]) -> list[Ports]:
    gaps, at = [], FIRST_NAT_PORT
    for first, last in sorted(taken):
        if first > at:
            gaps.append((at, first - 1))
        at = max(at, last + 1)
    return [*gaps, (at, LAST_PORT)] if at <= LAST_PORT else gaps


def _size(ports: Ports) -> int:
    return ports[1] - ports[0] + 1


def _text(ports: Ports) -> str:
    return f"{ports[0]}-{ports[1]}"


def _overlap(ports: Ports, ephemeral: Ports) -> Problem:
    return Problem(
        _SUBJECT,
        f"source ports {_text(ports)} overlap the node's ephemeral ports {_text(ephemeral)} "
        "(net.ipv4.ip_local_port_range): some connections of the node's own leave from other ports than "
        "their sockets'",
    )
