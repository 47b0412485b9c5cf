# SPDX-License-Identifier: Apache-2.0
"""How large the settings make the maps. Pure."""

from __future__ import annotations

from kubypass.settings.settings import Settings


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
