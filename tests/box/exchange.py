# SPDX-License-Identifier: Apache-2.0
"""Sends one line or datagram of a size, and reads the answer, which repeats it; fails unless all of it comes back.

exchange.py KIND ADDRESS PORT SIZE; a datagram of the kind `backwards` is sent in fragments, the last one first.
"""

from __future__ import annotations

import json
import socket
import sys

from kubypass_lab.box.patience import ANSWER_S

kind, address, port, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
text = ("0123456789" * (size // 10 + 1))[:size]
backwards = kind == "backwards"
with socket.socket(family, socket.SOCK_DGRAM if backwards else getattr(socket, kind)) as client:
    client.settimeout(ANSWER_S)
    client.connect((address, port))
    answer = b""
    if backwards:
        from backwards import send_backwards  # type: ignore[import-not-found]  # beside this script

        send_backwards(client, text.encode() + b"\n")
    else:
        client.sendall(text.encode() + b"\n")
    while not answer.endswith(b"\n"):
        answer += client.recv(65536)
found = json.loads(answer)
if found["request"] != text:
    sys.exit(f"{len(found['request'])} bytes came back of {size}")
sys.stdout.write(found["pod"])
