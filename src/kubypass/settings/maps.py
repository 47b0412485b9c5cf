# SPDX-License-Identifier: Apache-2.0
"""Settings of map sizes: each field is named for its map in bpf/maps.h, and has the default of its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kubypass.settings.key import Kind, setting
from kubypass.settings.parse import parse_size

MIN_ENTRIES: Final = 2**10
MAX_ENTRIES: Final = 2**24
TABLES: Final = 2**12
MAX_TABLES: Final = 2**16

_SIZE = Kind(
    f"number of entries, {MIN_ENTRIES} to {MAX_ENTRIES}", parse_size(MIN_ENTRIES, MAX_ENTRIES)
)
_CONNECTIONS = Kind(
    f"number of connections, {MIN_ENTRIES} to {MAX_ENTRIES}", parse_size(MIN_ENTRIES, MAX_ENTRIES)
)
_SERVICE_SIZE = Kind(
    f"{_SIZE.words}; 0: as bpf-lb-map-max", parse_size(MIN_ENTRIES, MAX_ENTRIES, inherit=True)
)


@dataclass(frozen=True, slots=True)
class MapSettings:
    """Sizes of maps, in entries."""

    service_maps: int = setting(
        "bpf-lb-map-max", _SIZE, 65536, "65536",
        "Size of `services` and of `backends`, if this is given and their own keys are not, or if these are 0.",
        inherited_by=("bpf-lb-service-map-max", "bpf-lb-service-backend-map-max"),
    )  # fmt: skip
    services: int = setting(
        "bpf-lb-service-map-max", _SERVICE_SIZE, 65536, "65536", "Size of `services`: frontends.",
    )  # fmt: skip
    backends: int = setting(
        "bpf-lb-service-backend-map-max", _SERVICE_SIZE, 262144, "262144",
        "Size of `backends`, and half the size of `slots`.",
    )  # fmt: skip
    maglev: int = setting(
        "bpf-lb-maglev-map-max",
        Kind(
            f"number of tables, {MIN_ENTRIES} to {MAX_TABLES}; 0: {TABLES}",
            parse_size(MIN_ENTRIES, MAX_TABLES, inherit=True),
        ),
        TABLES, f"{TABLES}",
        "Maglev tables that `maglev` has room for; a Service port has one in each family, two with a Local policy.",
    )  # fmt: skip
    flows: int = setting(
        "bpf-ct-global-tcp-max", _CONNECTIONS, 262144, "262144",
        "TCP connections that packets may have at once: half the size of `flows`.",
    )  # fmt: skip
    other_flows: int = setting(
        "bpf-ct-global-any-max", _CONNECTIONS, 131072, "131072",
        "Connections of other protocols, and of TCP that are not confirmed: half the size of `transient_flows`.",
    )  # fmt: skip
    socket_peers: int = setting(
        "bpf-sock-rev-map-max", _SIZE, 262144, "262144",
        "Size of `socket_peers`: connected sockets whose Service is remembered.",
    )  # fmt: skip
    fragments: int = setting(
        "bpf-fragments-map-max", _SIZE, 8192, "8192", "Size of `fragments`: fragmented datagrams.",
    )  # fmt: skip
