# SPDX-License-Identifier: Apache-2.0
"""Fetches a page from each of some source ports: ask_from_ports.py ADDRESS PORT FIRST COUNT [keep].

With `keep`, all connections are opened first; they are used when a line comes from standard input.
"""

from __future__ import annotations

import socket
import sys

from kubypass_lab.box.patience import ANSWER_S

address, port, first, count = sys.argv[1], *map(int, sys.argv[2:5])
keep = sys.argv[5:] == ["keep"]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
failed: list[str] = []


def open_connection(source: int) -> socket.socket | None:
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(
        ANSWER_S
    )  # a port may meet a TIME_WAIT socket of the pod: SYN again after 1, 3, 7 s
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("", source))
    try:
        client.connect((address, port))
    except OSError as error:
        failed.append(f"{source}: connect: {error}")
        client.close()
        return None
    return client


def fetch(client: socket.socket, source: int) -> None:
    try:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while client.recv(65536):
            pass
    except OSError as error:
        failed.append(f"{source}: {error}")
    client.close()


ports = range(first, first + count)
if keep:
    opened = [(open_connection(source), source) for source in ports]
    print("open", flush=True)
    sys.stdin.readline()
    for client, source in opened:
        if client:
            fetch(client, source)
else:
    for source in ports:
        if client := open_connection(source):
            fetch(client, source)
if failed:
    sys.exit(", ".join(failed))
