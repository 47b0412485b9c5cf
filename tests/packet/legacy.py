# SPDX-License-Identifier: Apache-2.0
"""Packets that pass the node's stack: what it sees, and what leaves."""

from __future__ import annotations

from typing import NamedTuple

from scapy.packet import Packet

from kubypass.datapath.sizes import is_note
from kubypass.kernel.netns import inside
from kubypass.kernel.program import packet_context, packet_mark
from tests.packet.lab import PASS, Lab
from tests.packet.map_entries import pod_device
from tests.packet.uplink import uplink_index

LEGACY = {"tracing": 1, "passages_a_cpu": 1024}
"""The note of a packet travels in its mark: test runs keep no other."""


class Left(NamedTuple):
    """What a program has left of a packet."""

    code: int
    packet: bytes
    note: int


def run(lab: Lab, program: str, packet: Packet | bytes, note: int = 0) -> Left:
    raw = bytes(packet)
    device = pod_device(lab.maps, raw) if program == "from_pod" else uplink_index()
    with inside(lab.path):
        done = lab.programs[program].test_run(raw, context=packet_context(device, mark=note))
    return Left(done.retval, done.data, packet_mark(done.context))


def passes(lab: Lab, where: tuple[str, str], packet: Packet, seen: Packet, left: Packet) -> None:
    """The packet arrives, the stack sees it, and it leaves: whole packets, which only the stack changes otherwise."""
    arrived = run(lab, where[0], packet)
    assert (arrived.code, arrived.packet) == (PASS, bytes(seen))
    assert is_note(arrived.note)
    gone = run(lab, where[1], arrived.packet, arrived.note)
    assert gone == (PASS, bytes(left), 0)
