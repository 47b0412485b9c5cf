# SPDX-License-Identifier: Apache-2.0
"""Sends one datagram; fails unless the answer comes from the address that was asked."""

from __future__ import annotations

import socket
import sys

from kubypass_lab.box.patience import ANSWER_S

address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as client:
    client.settimeout(ANSWER_S)
    client.sendto(b"who?\n", (address, port))
    answer, sender = client.recvfrom(65536)
if sender[:2] != (address, port):
    sys.exit(f"asked {address} port {port}, answered by {sender[0]} port {sender[1]}")
sys.stdout.write(answer.decode())
