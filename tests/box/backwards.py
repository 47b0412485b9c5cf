# SPDX-License-Identifier: Apache-2.0
"""Sends a datagram in pieces, the last one first, and reads the answer, which repeats it: ADDRESS PORT SIZE."""

from __future__ import annotations

import json
import socket
import sys

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

PIECE_BYTES = 1480
address, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
text = ("0123456789" * (size // 10 + 1))[:size]
with (
    socket.socket(family, socket.SOCK_DGRAM) as client,
    socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
):
    client.settimeout(5)
    client.connect((address, port))
    own, own_port = client.getsockname()[:2]
    datagram = UDP(sport=own_port, dport=port) / f"{text}\n"
    if family == socket.AF_INET6:
        header = IPv6(src=own, dst=address) / IPv6ExtHdrFragment(id=own_port)
        pieces = fragment6(header / datagram, PIECE_BYTES)
    else:
        pieces = fragment(IP(bytes(IP(src=own, dst=address, id=own_port) / datagram)), PIECE_BYTES)
    for piece in reversed(pieces):
        raw.sendto(bytes(piece), (address, 0))
    answer = client.recv(65536)
found = json.loads(answer)
if found["request"] != text:
    sys.exit(f"{len(found['request'])} bytes came back of {size}")
sys.stdout.write(found["pod"])
