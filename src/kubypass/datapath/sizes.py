# SPDX-License-Identifier: Apache-2.0
"""How large the settings make the maps. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache

from kubypass.model.constants import MAGLEV_CELLS
from kubypass.settings.maps import TABLES
from kubypass.settings.settings import KEYS, Settings

FLOW_MAPS = ("flows", "transient_flows")
"""Maps of connections, in which each has two entries."""
PASSAGES = 32768
"""Packets that the node's stack may have at once, with legacy host routing (bpf/passage.h, NOTE_PLACE)."""
_COMPLETE, _PLACE = 0x4B50, 0x8000
_BATCH = 128
"""Entries that a CPU takes at once from an LRU map's free ones (kernel/bpf/bpf_lru_list.c)."""


def map_sizes(settings: Settings) -> dict[str, int]:
    """Entries by map, for the maps that a setting sizes."""
    return {
        "services": settings.maps.services,
        "backends": settings.maps.backends,
        "slots": 2 * settings.maps.backends,
        "maglev": _maglev_parts(settings),
        "flows": 2 * settings.maps.flows,
        "transient_flows": 2 * settings.maps.other_flows,
        "fragments": settings.maps.fragments,
        "socket_peers": settings.maps.socket_peers,
        "passages": PASSAGES if settings.routing.legacy_host else 1,
    }


def is_note(mark: int) -> bool:
    """Whether a traced packet's mark says that the node's stack forwards it for our programs (bpf/passage.h)."""
    return mark == _COMPLETE or bool(mark & _PLACE and mark < 2 * _PLACE)


def _maglev_parts(settings: Settings) -> int:
    """Room for the parts of Maglev tables, where there may be some. What is not in use takes no memory."""
    if not settings.balancing.with_maglev:
        return 1
    parts = -(-settings.balancing.maglev_cells // MAGLEV_CELLS)
    return parts * (settings.maps.maglev or TABLES)


def kernel_sizes(sizes: Mapping[str, int], cpus: int) -> dict[str, int]:
    """The sizes with which maps hold what these sizes promise.

    An LRU map evicts although it has free entries: those that CPUs have taken to themselves, and less than one batch.
    """
    more = _BATCH * (cpus + 1)
    return {name: size + more * (name in FLOW_MAPS) for name, size in sizes.items()}


@cache
def size_keys() -> dict[str, str]:
    """The key of the setting that sizes each map: the one whose value changes the size."""
    settings = Settings().with_values({"balancing.algorithm": "maglev"})
    found: dict[str, str] = {}
    for key in KEYS:
        group, _, field = key.path.partition(".")
        if group == "maps" and not key.alias_of:
            doubled = {field: 2 * getattr(settings.maps, field)}
            maps = dataclasses.replace(settings.maps, **doubled)
            changed = map_sizes(dataclasses.replace(settings, maps=maps)).items()
            found |= {name: key.name for name, _ in changed - map_sizes(settings).items()}
    return found
