# SPDX-License-Identifier: Apache-2.0
"""Sysctls that forwarding needs."""

from __future__ import annotations

from kubypass.node.record import State
from kubypass.settings.settings import Settings


def set_sysctls(state: State, settings: Settings) -> int:
    """Returns how many were changed.

    The FIB answers only for devices that forward. By the loopback device, which nothing else arrives by, the node gets
    replies that come from an address of its own: of a NodePort that it has dialled (bpf/route.h, return_to_self).
    """
    wanted = []
    if settings.network.ipv4:
        wanted += ["net.ipv4.ip_forward"]
        wanted += [f"net.ipv4.conf.lo.{name}" for name in ("accept_local", "route_localnet")]
    if settings.network.ipv6:
        wanted.append("net.ipv6.conf.all.forwarding")
    return sum(state.set_sysctl(name, "1") for name in wanted)
