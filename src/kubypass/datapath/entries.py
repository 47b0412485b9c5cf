# SPDX-License-Identifier: Apache-2.0
"""Pure: keys and values of the maps of services, made from planned items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubypass.datapath import layout
from kubypass.datapath.maglev_tables import NO_TABLE, Table
from kubypass.model.address import Address, is_ipv4
from kubypass.model.cidr import Cidr
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendList
from kubypass.plan.items import EXTERNAL, Item, PlannedBackend, PlannedFrontend

_CLUSTER, _LOCAL = BackendList.CLUSTER, BackendList.LOCAL
_RANGE_BITS = 8 * (layout.SOURCE_RANGE_CLIENT_AT - layout.SOURCE_RANGE_SERVICE_AT)
"""A prefix in `source_ranges` counts the bits of the service's identifier before those of the address."""


@dataclass(frozen=True, slots=True)
class Lists:
    """An item's lists in `slots`: the Cluster list, and after it the Local one."""

    first_slot: int = 0
    cluster: tuple[int, ...] = ()
    """Identifiers of backends."""
    local: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Slots in use."""
        return len(self.cluster) + len(self.local)


@dataclass(slots=True)
class Entry:
    """What one item has in the maps."""

    id: int
    item: Item
    backend_ids: tuple[int, ...]
    """Identifiers in the order of the item's backends."""
    lists: Lists
    table: Table = NO_TABLE
    """The Maglev tables of its lists."""


def frontend_key(frontend: PlannedFrontend) -> bytes:
    """Key of `services` for a frontend."""
    return layout.TransportAddress(frontend.address, frontend.port, frontend.protocol).pack()


def address_key(frontend: PlannedFrontend) -> bytes:
    """Key of `services` for the frontend's address, whatever the port (service_addresses.py)."""
    return layout.TransportAddress(frontend.address, 0, 0).pack()


def service_value(
    number: int, lists: Lists, flags: int, affinity_s: int, table: Table = NO_TABLE
) -> bytes:
    """Value of `services` for a frontend of the service `number`. ClusterIPs have no Maglev table."""
    counts = (len(lists.cluster), len(lists.local))
    of_it = table if flags & EXTERNAL else NO_TABLE
    return layout.Service(
        number, lists.first_slot, *counts, flags, affinity_s, of_it.id, of_it.cells
    ).pack()


def backend_value(backend: PlannedBackend, service: int, protocol: Protocol) -> bytes:
    """Value of `backends` for a backend of the service."""
    address, port, state, lists, weight = backend
    return layout.Backend(address, service, port, protocol, state, lists, weight).pack()


def list_members(
    ids: tuple[int, ...], backends: tuple[PlannedBackend, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The identifiers in the Cluster list, and those in the Local one."""
    if not any(lists != _CLUSTER for _, _, _, lists, _ in backends):
        return ids, ()  # the usual case
    both = tuple(zip(ids, backends, strict=True))
    return (
        tuple([number for number, backend in both if backend.lists & _CLUSTER]),
        tuple([number for number, backend in both if backend.lists & _LOCAL]),
    )


def source_range_keys(number: int, ranges: Iterable[Cidr]) -> set[bytes]:
    """Keys of `source_ranges` for the service `number`."""
    return {
        layout.SourceRange(_RANGE_BITS + cidr.bits, number, cidr.network).pack() for cidr in ranges
    }


def source_range_of(key: bytes) -> Cidr:
    """The network of a key of `source_ranges`."""
    found = layout.SourceRange.unpack(key)
    network, bits = Address(found.client), found.bits - _RANGE_BITS
    return Cidr(network, bits - 96 if is_ipv4(network) else bits)
