# SPDX-License-Identifier: Apache-2.0
"""How large the settings make the maps. Pure."""

from __future__ import annotations

import dataclasses
from functools import cache

from kubypass.settings.settings import KEYS, Settings


def map_sizes(settings: Settings) -> dict[str, int]:
    """Entries by map, for the maps that a setting sizes."""
    return {
        "services": settings.maps.services,
        "backends": settings.maps.backends,
        "slots": 2 * settings.maps.backends,
        "flows": settings.maps.flows,
        "fragments": settings.maps.fragments,
        "socket_peers": settings.maps.socket_peers,
    }


@cache
def size_keys() -> dict[str, str]:
    """The key of the setting that sizes each map: the one whose value changes the size."""
    settings = Settings()
    found: dict[str, str] = {}
    for key in KEYS:
        group, _, field = key.path.partition(".")
        if group == "maps" and not key.alias_of:
            doubled = {field: 2 * getattr(settings.maps, field)}
            maps = dataclasses.replace(settings.maps, **doubled)
            changed = map_sizes(dataclasses.replace(settings, maps=maps)).items()
            found |= {name: key.name for name, _ in changed - map_sizes(settings).items()}
    return found
