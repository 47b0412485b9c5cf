# SPDX-License-Identifier: Apache-2.0
"""Sets the sysctls that forwarding needs, and puts sysctls back."""

from __future__ import annotations

from collections.abc import Iterable

from kubypass.kernel import sysctl
from kubypass.model.address import Family
from kubypass.node.record import Change, Kind, Record
from kubypass.settings.settings import Settings


def set_sysctl(record: Record, name: str, value: str) -> bool:
    """Sets a sysctl; False where it has the value already, or where the kernel has no such sysctl."""
    current = sysctl.read(name)
    if current is None or current == value:
        return False
    record.add(Change(Kind.SYSCTL, name, current))
    sysctl.write(name, value)
    return True


def restore_sysctl(change: Change) -> list[str]:
    """Sets a sysctl back to the value that it had."""
    if sysctl.read(change.subject) == change.before:
        return []
    sysctl.write(change.subject, change.before)
    return [f"set {change.subject} back to {change.before}"]


def forwarding_off(settings: Settings) -> list[str]:
    """The sysctls of the whole node that forwarding needs and that are not on."""
    return [name for name in _node_sysctls(settings) if sysctl.read(name) not in (None, "1")]


def set_device_forwarding(record: Record, settings: Settings, own: Iterable[str]) -> int:
    """Makes these devices of the node forward, each of which has a switch of its own; returns how many were changed."""
    names = [name for device in own for name in _device_sysctls(settings, device)]
    return sum(set_sysctl(record, name, "1") for name in names)


def set_pod_forwarding(settings: Settings, devices: Iterable[str]) -> int:
    """Makes pods' devices forward. They are ours and go with their pods, so that nothing is recorded."""
    changed = 0
    for device in devices:
        for name in _device_sysctls(settings, device):
            if sysctl.read(name) == "0":
                sysctl.write(name, "1")
                changed += 1
    return changed


def set_forwarding(record: Record, settings: Settings) -> int:
    """Makes the node forward; returns how many sysctls were changed.

    A FIB lookup answers only for devices that forward. Nothing but the node itself sends to the loopback device: there
    the node accepts replies whose source is an address of its own, those of a NodePort that it connected to
    (bpf/route.h, return_to_node).
    """
    return sum(set_sysctl(record, name, "1") for name in _node_sysctls(settings))


def _device_sysctls(settings: Settings, device: str) -> list[str]:
    versions: tuple[Family, ...] = (4, 6)
    return [
        f"net/ipv{version}/conf/{device}/forwarding"
        for version in filter(settings.network.has_family, versions)
    ]


def _node_sysctls(settings: Settings) -> list[str]:
    wanted = []
    if settings.network.ipv4:
        wanted += ["net.ipv4.ip_forward"]
        wanted += [f"net.ipv4.conf.lo.{name}" for name in ("accept_local", "route_localnet")]
    if settings.network.ipv6:
        wanted.append("net.ipv6.conf.all.forwarding")
    return wanted
