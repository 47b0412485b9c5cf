# SPDX-License-Identifier: Apache-2.0
"""Compares the settings with the node that they are for: what it does not have, or has too little of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubypass.kernel.netlink import Netlink
from kubypass.model.address import Address, Family, family, is_loopback, mapped_address
from kubypass.model.printable import printable
from kubypass.node.reserved_ports import ephemeral_ports, too_few_left
from kubypass.node.uplinks import unmatched
from kubypass.settings.contradictions import Contradiction
from kubypass.settings.settings import Settings

_MIB: Final = 2**20
_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
_SIZES: Final = ("bpf-ct-global-tcp-max", "bpf-lb-service-backend-map-max", "bpf-sock-rev-map-max")
_NAMED: Final = 8
_TRACES: Final = (Path("/var/lib/kubelet"), Path("/run/kubypass/pods"))


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the settings are compared with."""

    devices: frozenset[str]
    families: frozenset[Family]
    """The families of which the node has an address other than loopback."""
    ephemeral: tuple[int, int]
    memory_bytes: int
    """The memory of the machine, or the memory limit of this process' container."""
    map_bytes: int
    """What the maps of these settings take."""


def read_facts(map_bytes: int) -> NodeFacts:
    """The facts of the network namespace and the machine that we are in."""
    with Netlink() as netlink:
        devices = frozenset(link.name for link in netlink.links())
        addresses = [mapped_address(entry.address) for entry in netlink.addresses()]
    families = families_of(addresses)
    return NodeFacts(devices, families, ephemeral_ports(), memory_bytes(), map_bytes)


def families_of(addresses: Iterable[Address]) -> frozenset[Family]:
    """The families of addresses other than loopback."""
    return frozenset(family(address) for address in addresses if not is_loopback(address))


def memory_bytes() -> int:
    """The memory of this machine, or of this container where it has a limit."""
    fields = Path("/proc/meminfo").read_text().split()
    total = int(fields[fields.index("MemTotal:") + 1]) * 1024
    try:
        limit = _LIMIT.read_text().strip()
    except OSError:  # not a container, or no cgroup v2
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def is_node() -> bool:
    """Whether a kubelet or an agent of ours has been at work on this machine."""
    return any(path.is_dir() for path in _TRACES)


def preflight(settings: Settings, facts: NodeFacts) -> Iterator[Contradiction]:
    """Yields what does not fit. `wrong` is what an agent does not start with."""
    for rule in _RULES:
        yield from rule(settings, facts)


def _ports(settings: Settings, facts: NodeFacts) -> Iterator[Contradiction]:
    left = too_few_left(settings, facts.ephemeral)
    if (
        left is None
        or not settings.services.with_node_ports
        or not settings.node_ports.reserve_range
    ):
        return
    first, last = settings.node_ports.port_range
    low, high = facts.ephemeral
    message = (
        f"{first},{last} would leave {left} of the node's ephemeral ports (net.ipv4.ip_local_port_range {low} {high}): "
        "they are not reserved, so that connect() still works, and a connection may get a NodePort's number; "
        "give the API server's range, or widen net.ipv4.ip_local_port_range"
    )
    yield Contradiction(("node-port-range",), "doubtful", message)


def _devices(settings: Settings, facts: NodeFacts) -> Iterator[Contradiction]:
    for text in unmatched(settings.network.devices, facts.devices):
        here = sorted(map(printable, facts.devices - {"lo"}))
        more = ", …" if len(here) > _NAMED else ""
        message = (
            f"no device of this node is called {printable(text.removeprefix('!'))}; there are "
            f"{', '.join(here[:_NAMED])}{more}; it takes part once it is there"
        )
        yield Contradiction(("devices",), "doubtful", message)


def _families(settings: Settings, facts: NodeFacts) -> Iterator[Contradiction]:
    if facts.families and not any(map(settings.network.has_family, facts.families)):
        has = " and ".join(f"IPv{version}" for version in sorted(facts.families))
        keys = ("enable-ipv4", "enable-ipv6")
        message = f"this node has addresses of {has} only, which is switched off: nothing is served; switch it on"
        yield Contradiction(keys, "doubtful", message)


def _memory(settings: Settings, facts: NodeFacts) -> Iterator[Contradiction]:
    del settings
    if 2 * facts.map_bytes < facts.memory_bytes:
        return
    need, has = facts.map_bytes / _MIB, facts.memory_bytes / _MIB
    message = (
        f"the maps take {need:.0f} MiB, and this node (or the agent's container) has {has:.0f} MiB"
    )
    if facts.map_bytes < facts.memory_bytes:
        yield Contradiction(
            _SIZES, "doubtful", f"{message}: little is left for pods; make them smaller"
        )
    else:
        yield Contradiction(_SIZES, "wrong", f"{message}; make them smaller")


_RULES: Final[tuple[Callable[[Settings, NodeFacts], Iterator[Contradiction]], ...]] = (
    _ports,
    _devices,
    _families,
    _memory,
)
