# SPDX-License-Identifier: Apache-2.0
"""What the pinned maps say by themselves, for `kubypass status` while no agent answers. It only reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kubypass.datapath import layout
from kubypass.datapath.counters import Count, read_counts
from kubypass.datapath.pins import Pins
from kubypass.datapath.sizes import FLOW_MAPS
from kubypass.kernel.bpf import Map
from kubypass.model.verdict import ServiceFlag

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class PinnedState:
    """The figures of one moment."""

    service_ports: int
    """Ports of services, one in each family."""
    frontends: int
    backends: int
    flows: dict[str, tuple[int, int]]
    """Entries, expired ones among them, and sizes of the maps of connections."""
    links: int
    """Programs that are attached by pinned links; devices with clsact filters have none."""
    counts: tuple[Count, ...]


def read_pinned_state(bpffs: Path) -> PinnedState:
    """Reads the maps below `bpffs`; KernelError where they are not there, or may not be read."""
    pins = Pins(bpffs)
    services = [layout.Service.unpack(raw) for _, raw in pins.open_map("services").items(_CHUNK)]
    served = [service for service in services if not service.flags & ServiceFlag.ADDRESS]
    flows = {name: pins.open_map(name) for name in FLOW_MAPS}
    return PinnedState(
        service_ports=len({service.id for service in served}),
        frontends=len(served),
        backends=sum(any(raw) for _, raw in pins.open_map("backends").items(_CHUNK)),
        flows={name: (count_entries(one), one.info.max_entries) for name, one in flows.items()},
        links=len(list(pins.links.glob("*"))),
        counts=tuple(read_counts(pins.open_map("metrics"))),
    )


def count_entries(hash_map: Map) -> int:
    """How many entries a hash map has now."""
    return sum(count for _, _, count in hash_map.chunks(_CHUNK))
