# SPDX-License-Identifier: Apache-2.0
"""How full the maps are: rows of status, metrics, and a problem for each that is nearly full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubypass.api.metric import Labels, Metric
from kubypass.datapath.evictions import Evictions
from kubypass.datapath.sizes import map_sizes, size_keys
from kubypass.kernel.bpf import Map
from kubypass.model.problem import Problem
from kubypass.settings.maps import MAX_ENTRIES
from kubypass.settings.settings import KEYS, Settings

FULL_PERCENT = 90
"""From here on, a map is a problem."""
_MEANINGS = {
    "services": "once it is full, new services are not served",
    "backends": "once it is full, new endpoints get no connections",
    "slots": "once it is full, new endpoints get no connections",
    "maglev": "once it is full, services select backends at random that should by Maglev",
    "flows": "once it is full, the connection that was silent longest is lost for each new one",
    "transient_flows": "once it is full, the attempts to connect and the datagram flows that were silent longest are "
    "lost for new ones, as in a flood; confirmed TCP connections are not",
    "fragments": "once it is full, datagrams lose fragments",
    "affinities": "once it is full, clients lose the backend that session affinity gave them",
    "local_addresses": "once it is full, new pods are not reached",
    "foreign_sources": "once it is full, new routers in pods are held to their own addresses",
    "socket_lb_off": "once it is full, sockets of new pods that are excluded are load-balanced",
    "source_ranges": "once it is full, new services with loadBalancerSourceRanges are not served",
}
"""What happens, by map; other maps are no problem when they are full."""
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Fill:
    """One map at one moment."""

    name: str
    entries: int
    """Entries that are in use, as far as the last count knows."""
    size: int
    memory_bytes: int
    """What the kernel has allocated for it."""
    key: str = ""
    """The setting that sizes it; empty where none does."""
    value: int = 0
    """The value of that setting."""
    evicted: int = 0
    """Living entries that the kernel has evicted since the agent started, about."""
    evicted_lately: int = 0
    """Living entries that it has evicted in the last seconds, about."""

    @property
    def percent(self) -> int:
        """How much of it is in use."""
        return 100 * self.entries // self.size

    def row(self) -> dict[str, object]:
        """The map as the API sends it."""
        return {
            "name": self.name,
            "max_entries": self.size,
            "entries": self.entries,
            "memory_bytes": self.memory_bytes,
            "setting": self.key,
            "evicted": self.evicted,
        }


def read_fills(
    maps: Mapping[str, Map], entries: Mapping[str, int], settings: Settings, evictions: Evictions
) -> tuple[Fill, ...]:
    """The maps with these numbers of entries."""
    keys, sizes, found = size_keys(), map_sizes(settings), []
    values = {
        key.name: int(str(settings.value(key.path))) for key in KEYS if key.name in keys.values()
    }
    for name, count in sorted(entries.items()):
        opened, key = maps[name], keys.get(name, "")
        size = sizes.get(name, opened.info.max_entries)
        fill = Fill(name, count, size, opened.memory_bytes, key, values.get(key, 0))
        if name == "flows":
            fill = replace(fill, evicted=evictions.count, evicted_lately=evictions.latest)
        found.append(fill)
    return tuple(found)


def fill_problems(fills: Sequence[Fill]) -> list[Problem]:
    """A problem for each map that is nearly full, with the setting to raise, and what memory that takes."""
    return [
        Problem(f"Map {one.name}", f"{_said(one)}; {_MEANINGS[one.name]}; {_advice(one, fills)}")
        for one in fills
        if one.name in _MEANINGS and (one.percent >= FULL_PERCENT or one.evicted_lately)
    ]


def _said(fill: Fill) -> str:
    said = f"is {fill.percent} % full: {fill.entries} of {fill.size} entries are in use"
    if fill.evicted_lately:
        said += f", and about {fill.evicted_lately} that lived were evicted in the last seconds"
    return said


def _advice(fill: Fill, fills: Sequence[Fill]) -> str:
    if not fill.key:
        return "its size is fixed in this version: use less of it on this node"
    wanted = min(2 * fill.value, MAX_ENTRIES)
    if wanted <= fill.value:
        return f"{fill.key} is {fill.value}, the most that is possible: use less of it on this node"
    sized = [one for one in fills if one.key == fill.key]
    more = sum(one.memory_bytes for one in sized) * (wanted - fill.value) / fill.value / _MIB
    return (
        f"set {fill.key} to {wanted} (it is {fill.value}), which takes {more:.0f} MiB of memory more, and restart "
        "the agent"
    )


def fill_metrics(fills: Iterable[Fill]) -> list[Metric]:
    """Entries and sizes by map."""
    rows: list[tuple[Labels, Fill]] = [((("map", one.name),), one) for one in fills]
    return [
        Metric(
            "kubypass_map_entries",
            "gauge",
            "Entries in use, by map; expired ones are not counted.",
            tuple(("", labels, one.entries) for labels, one in rows),
        ),
        Metric(
            "kubypass_map_max_entries",
            "gauge",
            "Entries that the map has room for, by map.",
            tuple(("", labels, one.size) for labels, one in rows),
        ),
        Metric(
            "kubypass_map_memory_bytes",
            "gauge",
            "Memory that the kernel has allocated, by map.",
            tuple(("", labels, one.memory_bytes) for labels, one in rows),
        ),
        Metric(
            "kubypass_map_evicted_total",
            "counter",
            "Living entries that the kernel evicted to make room, by map; of a large map, estimated by a sample.",
            tuple(("", labels, one.evicted) for labels, one in rows if one.name == "flows"),
        ),
    ]
