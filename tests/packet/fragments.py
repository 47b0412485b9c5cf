# SPDX-License-Identifier: Apache-2.0
"""Fragmented datagrams, and what the programs do with each fragment."""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import IP, fragment
from scapy.layers.inet6 import IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import Ether

from kubypass.kernel.netns import inside
from kubypass.model.verdict import Hook, Verdict
from tests.packet.lab import REDIRECT, SHOT, Lab
from tests.packet.packets import IN, Addresses, Flow, segment

ETH_P_ALL = 3
ORDERS = list(itertools.permutations(range(3)))
PAYLOAD = "".join(f"{number:07} " for number in range(375))  # 3000 bytes


def fragments(who: Addresses, flow: Flow, where: Mapping[str, Any], **options: Any) -> list[bytes]:
    """The frames that carry the datagram of a flow; options: protocol, number (its identification), payload."""
    number = options.pop("number", 7)
    whole = segment(who, flow, **{"payload": PAYLOAD, **where, **options})
    ethernet, ip = Ether(src=whole.src, dst=whole.dst), whole.payload
    if who.version == 4:
        ip.id = number
        found = fragment(IP(bytes(ip)), 1000)
    else:
        transport = ip.payload
        ip.remove_payload()
        ip.plen = None
        found = fragment6(ip / IPv6ExtHdrFragment(id=number) / transport, 1100)
    assert len(found) >= 3
    return [bytes(ethernet / piece) for piece in found]


def follow(
    lab: Lab,
    who: Addresses,
    program: str,
    sent: Flow,
    expected: Flow,
    where: Mapping[str, Any],
    code: int = REDIRECT,
    **options: Any,
) -> None:
    """Runs one fragment after the other."""
    wanted = fragments(who, expected, where, **options)
    for piece, whole in zip(fragments(who, sent, IN, **options), wanted, strict=True):
        result = lab.run(program, piece)
        assert (result.code, result.packet) == (code, whole), result.counted


@contextmanager
def queued(lab: Lab) -> Iterator[list[bytes]]:
    """What arrives at its device once more, in the order in which it does; complete after the block."""
    found: list[bytes] = []
    to_us = bytes.fromhex(IN["dmac"].replace(":", ""))  # others are the kernel's own
    every = socket.htons(ETH_P_ALL)
    with inside(lab.path), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every) as capture:
        while select.select([capture], [], [], 0)[0]:
            capture.recv(65536)
        yield found
        while select.select([capture], [], [], 0.05)[0]:
            frame = capture.recv(65536)
            if frame.startswith(to_us):
                found.append(frame)


def alike(who: Addresses, protocol: str) -> str:
    """A payload whose fragments have one length: a packet that grows is summed again by its receiver only."""
    header = 20 if protocol == "TCP" else 8
    return ("1234567 " * 400)[: {4: 3000, 6: 3144}[who.version] - header]


def check_queued(lab: Lab, program: str, frame: bytes) -> None:
    result = lab.run(program, frame)
    hook = Hook[program.upper()]
    assert (result.code, dict(result.counted)) == (SHOT, {(hook, Verdict.QUEUED): 1})


def in_order(
    lab: Lab,
    program: str,
    sent: list[bytes],
    wanted: list[bytes],
    order: tuple[int, ...],
    code: int = REDIRECT,
) -> None:
    """Fragments before the first one are queued, and reinjected as they came once it is through."""
    early = order[: order.index(0)]
    for index in early:
        check_queued(lab, program, sent[index])
    with queued(lab) as again:
        result = lab.run(program, sent[0])
        assert (result.code, result.packet) == (code, wanted[0])
    assert again == [sent[index] for index in early]
    for index in (*early, *order[order.index(0) + 1 :]):
        result = lab.run(program, sent[index])
        assert (result.code, result.packet) == (code, wanted[index])
    assert not list(lab.maps["queued_fragments"].items())
