# SPDX-License-Identifier: Apache-2.0
"""Reads `snat_failures`: how many connections to each backend were dropped because no source port was free."""

from __future__ import annotations

from typing import NamedTuple

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address


class SnatFailure(NamedTuple):
    """The failures towards one backend; `last_ns` is of CLOCK_MONOTONIC."""

    connections: int
    address: Address
    port: int
    protocol: int
    last_ns: int


def read_snat_failures(snat_failures: Map) -> list[SnatFailure]:
    """Returns all that the map holds, the backend with the most failures first."""
    found = []
    for key, value in snat_failures.items():
        to, failure = layout.TransportAddress.unpack(key), layout.SnatFailure.unpack(value)
        destination = (Address(to.address), to.port, to.protocol)
        found.append(SnatFailure(failure.connections, *destination, failure.last_ns))
    return sorted(found, reverse=True)
