# SPDX-License-Identifier: Apache-2.0
"""Sends a datagram in fragments, the last one first."""

from __future__ import annotations

import socket

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

FRAGMENT_BYTES = 1480


def send_backwards(client: socket.socket, payload: bytes) -> None:
    """Sends a payload as a UDP socket that is connected would, but for the order."""
    (own, own_port), (address, port) = client.getsockname()[:2], client.getpeername()[:2]
    datagram = UDP(sport=own_port, dport=port) / payload
    if client.family == socket.AF_INET6:
        header = IPv6(src=own, dst=address) / IPv6ExtHdrFragment(id=own_port)
        fragments = fragment6(header / datagram, FRAGMENT_BYTES)
    else:
        fragments = fragment(
            IP(bytes(IP(src=own, dst=address, id=own_port) / datagram)), FRAGMENT_BYTES
        )
    with socket.socket(client.family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for each in reversed(fragments):
            raw.sendto(bytes(each), (address, 0))
