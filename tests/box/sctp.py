# SPDX-License-Identifier: Apache-2.0
"""SCTP of two packets, by raw sockets: this kernel has none of its own.

sctp.py serve NAME PORT ADDRESS...: answers each INIT with an ABORT that has the name in its cause; says "ready" first.
sctp.py ask SOURCE,ADDRESS,PORT...: sends INITs, and prints the answers: names, and whose addresses and ports they have;
null where none comes, or one with a wrong checksum.
"""

from __future__ import annotations

import json
import select
import socket
import sys
from contextlib import suppress

from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkInit

OWN_PORT = 40123


def opened(address: str) -> socket.socket:
    """A raw socket that sees all SCTP packets to an address, and sends from it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_SCTP)
    found.bind((address, 0))
    return found


def receive(opened: socket.socket) -> tuple[SCTP | None, str]:
    """A packet, without its IPv4 header, and whose it is; None if its checksum is wrong."""
    packet, (peer, *_) = opened.recvfrom(65536)
    whole = packet[(packet[0] & 15) * 4 :] if opened.family == socket.AF_INET else packet
    found = SCTP(whole)
    stated, found.chksum = found.chksum, None
    return (found if SCTP(bytes(found)).chksum == stated else None), peer


def serve(name: str, port: int, addresses: list[str]) -> None:
    """Until it is ended."""
    sockets = [opened(address) for address in addresses]
    print("ready", flush=True)
    while True:
        for server in select.select(sockets, [], [])[0]:
            found, client = receive(server)
            if found and found.dport == port and SCTPChunkInit in found:
                tag = found[
                    SCTPChunkInit
                ].init_tag  # what connection tracking expects (RFC 9260 section 8.5.1)
                answer = SCTP(sport=port, dport=found.sport, tag=tag) / SCTPChunkAbort(
                    error_causes=name
                )
                server.sendto(bytes(answer), (client, 0))


def ask(source: str, address: str, port: int, patience_s: float) -> tuple[str, str, int] | None:
    """One INIT, and what comes of it."""
    with suppress(TimeoutError), opened(source) as client:
        client.settimeout(patience_s)
        sent = SCTP(sport=OWN_PORT, dport=port) / SCTPChunkInit(init_tag=1)
        client.sendto(bytes(sent), (address, 0))
        while True:
            found, peer = receive(client)
            if found and found.dport == OWN_PORT and SCTPChunkAbort in found:
                name = bytes(found[SCTPChunkAbort].error_causes).decode()
                return name, peer, found.sport
    return None


if sys.argv[1] == "serve":
    serve(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
else:
    rows = (each.split(",") for each in sys.argv[3:])
    print(
        json.dumps(
            [ask(source, address, int(port), float(sys.argv[2])) for source, address, port in rows]
        )
    )
