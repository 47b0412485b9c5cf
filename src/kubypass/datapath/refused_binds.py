# SPDX-License-Identifier: Apache-2.0
"""Reads `refused_binds`: the processes that wanted to listen on NodePorts."""

from __future__ import annotations

from typing import NamedTuple

from kubypass.datapath import layout
from kubypass.kernel.bpf import Map
from kubypass.model.address import Address
from kubypass.model.protocol import Protocol


class RefusedBind(NamedTuple):
    """The last refusal of one port."""

    protocol: Protocol
    port: int
    address: Address
    at_ns: int
    """CLOCK_MONOTONIC."""
    pid: int
    command: str
    times: int


def read_refused_binds(refused_binds: Map) -> list[RefusedBind]:
    """Returns the last refusal of each port, the latest first."""
    found = []
    for key, raw in refused_binds.items():
        port, value = layout.NodePort.unpack(key), layout.RefusedBind.unpack(raw)
        command = value.command.partition(b"\0")[0].decode(errors="replace")
        of = (Protocol(port.protocol), port.port, Address(value.address))
        found.append(RefusedBind(*of, value.at_ns, value.pid, command, value.times))
    return sorted(found, key=lambda bind: -bind.at_ns)
