# SPDX-License-Identifier: Apache-2.0
"""Reserves the NodePorts, so that no socket gets one as its ephemeral port."""

from __future__ import annotations

from kubypass.kernel import sysctl
from kubypass.node.record import Record
from kubypass.node.sysctls import set_sysctl
from kubypass.settings.settings import Settings

_RESERVED = "net.ipv4.ip_local_reserved_ports"
_EPHEMERAL = "net.ipv4.ip_local_port_range"


def reserve_node_ports(record: Record, settings: Settings) -> int:
    """Reserves the NodePorts that are ephemeral ports as well; returns how many sysctls were changed."""
    if not (settings.services.with_node_ports and settings.node_ports.reserve_range):
        return 0
    first, last = settings.node_ports.port_range
    ephemeral, reserved = sysctl.read(_EPHEMERAL), sysctl.read(_RESERVED)
    if ephemeral is None or reserved is None:
        return 0
    low, high = map(int, ephemeral.split())
    low, high = max(low, first), min(high, last)
    if low > high or _covers(reserved, low, high):
        return 0
    return int(set_sysctl(record, _RESERVED, f"{reserved},{low}-{high}".lstrip(",")))


def _covers(reserved: str, low: int, high: int) -> bool:
    """Whether the kernel's list of ports and ranges, which it keeps sorted and merged, has all of these."""
    for part in filter(None, reserved.split(",")):
        begin, _, end = part.partition("-")
        if int(begin) <= low and high <= int(end or begin):
            return True
    return False
