# SPDX-License-Identifier: Apache-2.0
"""answer_backwards.py ADDRESS PORT: a server of one datagram, which it repeats in fragments, the last one first.

It says "ready" once it listens.
"""

from __future__ import annotations

import json
import socket
import sys

from backwards import send_backwards  # type: ignore[import-not-found]  # beside this script

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as server:
    server.bind((address, port))
    print("ready", flush=True)
    asked, client = server.recvfrom(65536)
    server.connect(client)
    answer = {"pod": "backwards", "request": asked.decode().rstrip("\n")}
    send_backwards(server, json.dumps(answer).encode() + b"\n")
