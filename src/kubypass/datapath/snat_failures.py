# SPDX-License-Identifier: Apache-2.0
"""Connections that were dropped because no source port was free, by backend."""

from __future__ import annotations

from typing import NamedTuple

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address


class SnatFailure(NamedTuple):
    """One backend's; `last_ns` is of CLOCK_MONOTONIC."""

    connections: int
    address: Address
    port: int
    protocol: int
    last_ns: int


def read_snat_failures(snat_failures: Map) -> list[SnatFailure]:
    """All that the map holds, the most first."""
    found = []
    for key, value in snat_failures.items():
        to, failure = layout.SnatDestination.unpack(key), layout.SnatFailure.unpack(value)
        where = (Address(to.address), to.port, to.protocol)
        found.append(SnatFailure(failure.connections, *where, failure.last_ns))
    return sorted(found, reverse=True)
