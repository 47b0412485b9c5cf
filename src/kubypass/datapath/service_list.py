# SPDX-License-Identifier: Apache-2.0
"""Lists the services that the maps hold, for `kubypass service list`. It needs no running agent."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from kubypass.datapath import layout
from kubypass.datapath.pins import Pins
from kubypass.kernel.bpf import Map
from kubypass.model.address import (
    UNSPECIFIED,
    Address,
    family,
    format_address_port,
    is_ipv6_link_local,
)
from kubypass.model.protocol import Protocol
from kubypass.model.verdict import BackendState, LocalAddressKind, ServiceFlag

_TYPES = (
    (ServiceFlag.CLUSTER_IP, "ClusterIP"),
    (ServiceFlag.NODE_PORT, "NodePort"),
    (ServiceFlag.EXTERNAL_IP, "ExternalIPs"),
    (ServiceFlag.LOAD_BALANCER, "LoadBalancer"),
    (ServiceFlag.HOST_PORT, "HostPort"),
)
Row = dict[str, object]


def pinned_services(bpffs: Path) -> list[Row]:
    """Returns the services of the node whose maps are pinned below `bpffs`."""
    pins = Pins(bpffs)
    names = ("services", "slots", "backends", "local_addresses")
    return list_services({name: pins.open_map(name) for name in names})


def list_services(maps: dict[str, Map]) -> list[Row]:
    """Returns one row for each frontend. A NodePort has one more for each address of the node."""
    addresses = node_addresses(maps["local_addresses"])
    slots = b"".join(values for _, values, _ in maps["slots"].chunks(65536))
    by_service = _backends(maps["backends"])
    rows: list[Row] = []
    for raw_key, raw in maps["services"].items():
        key, value = layout.TransportAddress.unpack(raw_key), layout.Service.unpack(raw)
        if value.flags & ServiceFlag.ADDRESS:
            continue
        count = value.backends + value.local_backends
        active = set(struct.unpack_from(f"<{count}I", slots, value.first_slot * 4))
        backends = [_backend_row(n, found, active) for n, found in by_service.get(value.id, ())]
        backends.sort(key=lambda row: str(row["address"]))
        at: Iterable[Address] = [Address(key.address)]
        is_any = key.address in UNSPECIFIED.values()
        if is_any and value.flags & (ServiceFlag.NODE_PORT | ServiceFlag.HOST_PORT):
            at = [*at, *(a for a in addresses if family(a) == family(Address(key.address)))]
        kind = next((name for flag, name in _TYPES if value.flags & flag), "ClusterIP")
        rows.extend(
            {
                "id": value.id,
                "frontend": format_address_port(address, key.port, Protocol(key.protocol)),
                "type": kind,
                "backends": backends,
                **_policies(value),
            }
            for address in at
        )
    rows.sort(key=lambda row: (row["id"], row["type"], row["frontend"]))
    return rows


def _policies(service: layout.Service) -> Row:
    """What `service list -o wide` shows besides."""
    ranges = "none"
    if service.flags & ServiceFlag.SOURCE_RANGES:
        ranges = "refused" if service.flags & ServiceFlag.SOURCE_DENY else "admitted"
    return {
        "policy": "Local" if service.flags & ServiceFlag.LOCAL else "Cluster",
        "affinity_s": service.affinity_s,
        "algorithm": "maglev" if service.cells else "random",
        "table_cells": service.cells,
        "source_ranges": ranges,
        "forwarding": "DSR" if service.flags & ServiceFlag.DSR else "SNAT",
    }


def node_addresses(local_addresses: Map) -> list[Address]:
    """Returns the node's addresses on which NodePorts answer, without link-local ones."""
    found = []
    for key, raw in local_addresses.items():
        answers = layout.LocalAddress.unpack(raw).kind == LocalAddressKind.NODE_PORTS
        if answers and key not in UNSPECIFIED.values() and not is_ipv6_link_local(Address(key)):
            found.append(Address(key))
    return sorted(found)


def _backends(backends: Map) -> dict[int, list[tuple[int, layout.Backend]]]:
    found: dict[int, list[tuple[int, layout.Backend]]] = {}
    for key, raw in backends.items(65536):
        if any(raw):
            value = layout.Backend.unpack(raw)
            found.setdefault(value.service, []).append((int.from_bytes(key, "little"), value))
    return found


def _backend_row(number: int, backend: layout.Backend, active: set[int]) -> Row:
    state = "active" if number in active else BackendState(backend.state).name.lower()
    address = format_address_port(
        Address(backend.address), backend.port, Protocol(backend.protocol)
    )
    return {"address": address, "state": state, "weight": backend.weight or 1}
