# SPDX-License-Identifier: Apache-2.0
"""Sets the sysctls that forwarding needs, and puts sysctls back."""

from __future__ import annotations

from kubypass.kernel import sysctl
from kubypass.node.record import Change, Kind, Record
from kubypass.settings.settings import Settings


def set_sysctl(record: Record | None, name: str, value: str, kind: Kind = Kind.SYSCTL) -> bool:
    """Sets a sysctl; False where it has the value already, or where the kernel has no such sysctl.

    Without a record it is one of a pod's device, which is ours and goes with its pod.
    """
    current = sysctl.read(name)
    if current is None or current == value:
        return False
    if record is not None:
        record.add(Change(kind, name, current))
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
    return [name for name in node_forwarding(settings) if sysctl.read(name) not in (None, "1")]


def switch_on(name: str) -> bool:
    """Switches on a sysctl of a pod's device: it is ours and goes with its pod, so that nothing is recorded."""
    if sysctl.read(name) != "0":
        return False
    sysctl.write(name, "1")
    return True


def device_forwarding(settings: Settings, device: str) -> list[str]:
    """The sysctls by which a device forwards; each device has a switch of its own."""
    return [f"net/ipv{v}/conf/{device}/forwarding" for v in settings.network.families]


def node_forwarding(settings: Settings) -> list[str]:
    """The sysctls of the whole node that forwarding needs.

    A FIB lookup answers only for devices that forward. Nothing but the node itself sends to the loopback device: there
    the node accepts replies whose source is an address of its own, those of a NodePort that it connected to
    (bpf/route.h, return_to_node).
    """
    wanted = []
    if settings.network.ipv4:
        wanted += ["net.ipv4.ip_forward"]
        wanted += [f"net.ipv4.conf.lo.{name}" for name in ("accept_local", "route_localnet")]
    if settings.network.ipv6:
        wanted.append("net.ipv6.conf.all.forwarding")
    return wanted
