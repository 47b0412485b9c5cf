# SPDX-License-Identifier: Apache-2.0
"""What the node's own stack needs to forward packets of pods for our programs (`enable-host-legacy-routing`).

Programs translate a packet's destination where it arrives and its source where it leaves (bpf/passage.h), so the stack
sees none of the node's own addresses as a source, and `accept_local` stays as it is. Forwarding is on anyway. What is
left: replies that arrive by another uplink than the route back, which a strict reverse path filter drops, and packets
that leave by the device that they came in by, for which the kernel would send ICMP redirects to their senders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from kubypass.node.record import Kind, Record
from kubypass.node.reverse_path import ReversePathFilters
from kubypass.node.sysctls import restore_sysctl, set_sysctl
from kubypass.settings.settings import Settings

_ALL = "all"
"""The kernel sends redirects where either the value of `all` or a device's own is on."""


def host_routing_sysctls(
    record: Record, settings: Settings, uplinks: Iterable[str], filters: ReversePathFilters
) -> Iterator[Callable[[], bool]]:
    """Each result sets one sysctl of the node's own devices; IPv6 has none for this."""
    if not (settings.routing.legacy_host and settings.network.ipv4):
        return
    kind, names = Kind.HOST_ROUTING, tuple(uplinks)
    for device in (_ALL, *names):
        yield partial(set_sysctl, record, send_redirects(device), "0", kind)
    for device in names:
        yield partial(filters.loosen, device, record, kind)


def send_redirects(device: str) -> str:
    """The sysctl by which the kernel tells senders of a device that another router is nearer."""
    return f"net/ipv4/conf/{device}/send_redirects"


def end_host_routing(record: Record, settings: Settings) -> int:
    """Puts back what was set where programs forward again; returns how many sysctls were changed."""
    if settings.routing.legacy_host:
        return 0
    return len(record.undo({Kind.HOST_ROUTING: restore_sysctl}))
