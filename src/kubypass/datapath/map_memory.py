# SPDX-License-Identifier: Apache-2.0
"""Estimates the kernel memory of maps before they are made. Pure.

Of an array entry the kernel keeps the value, of a hash entry also the key, the head of an element and its share of the
table of buckets. All is allocated when the map is made: a map of ours that a setting sizes grows no further. Only
the parts of Maglev tables are allocated one by one.
"""

from __future__ import annotations

from typing import Final

from kubypass.datapath import layout
from kubypass.datapath.sizes import FLOW_MAPS, map_sizes
from kubypass.settings.settings import Settings

_ELEMENT, _BUCKET = 48, 16
_NUMBER: Final = 4
_ENTRIES: Final = {
    "services": (layout.TRANSPORT_ADDRESS_SIZE, layout.SERVICE_SIZE),
    "backends": (0, layout.BACKEND_SIZE),
    "slots": (0, _NUMBER),
    "maglev": (layout.MAGLEV_PART_SIZE, layout.MAGLEV_CELLS_SIZE),
    **dict.fromkeys(FLOW_MAPS, (layout.TUPLE_SIZE, layout.FLOW_SIZE)),
    "fragments": (layout.DATAGRAM_SIZE, layout.DATAGRAM_PORTS_SIZE),
    "socket_peers": (layout.SOCKET_PEER_SIZE, layout.TRANSPORT_ADDRESS_SIZE),
    "passages": (0, 3 * layout.TUPLE_SIZE),
}
"""Bytes of the key, 0 for an array's, and of the value."""


def map_memory(settings: Settings) -> int:
    """The bytes of all maps that settings size."""
    sizes = map_sizes(settings)
    return _buckets(sizes.pop("maglev")) + sum(_map(*_ENTRIES[k], v) for k, v in sizes.items())


def _map(key: int, value: int, size: int) -> int:
    entry = _aligned(value)
    if not key:
        return size * entry
    return size * _element(key, value) + _buckets(size)


def _element(key: int, value: int) -> int:
    return _ELEMENT + _aligned(key) + _aligned(value)


def _buckets(size: int) -> int:
    return _BUCKET << (size - 1).bit_length()


def _aligned(size: int) -> int:
    return (size + 7) & ~7
