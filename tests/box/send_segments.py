# SPDX-License-Identifier: Apache-2.0
"""Sends datagrams that the kernel cuts from one large one (UDP_SEGMENT), as QUIC does; fails unless each is answered.

send_segments.py ADDRESS PORT SIZE COUNT ROUNDS; it prints the pods that have answered, and the clients that they saw.
"""

from __future__ import annotations

import json
import socket
import sys

from kubypass_lab.box.patience import ANSWER_S

UDP_SEGMENT = 103
address, port, size, count, rounds = sys.argv[1], *map(int, sys.argv[2:6])
found: set[str] = set()
for number in range(rounds):
    with socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
    ) as client:
        client.settimeout(ANSWER_S)
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        client.connect((address, port))
        sent = {f"{number}-{each}".ljust(size, "x") for each in range(count)}
        client.send("".join(sorted(sent)).encode())
        answers = [json.loads(client.recv(65535)) for _ in sent]
        if {answer["request"] for answer in answers} != sent:
            sys.exit(f"the pods got {[len(answer['request']) for answer in answers]}")
        found |= {
            f"{answer['pod']} {answer['client'].rpartition(':')[0].strip('[]')}"
            for answer in answers
        }
sys.stdout.write("\n".join(sorted(found)))
