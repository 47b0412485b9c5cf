# SPDX-License-Identifier: Apache-2.0
"""A client with a connected socket, TCP or UDP. It says which pod answers, then does what its input says, line by line.

ask: which pod answers. peer: getpeername(). wait: asks until it is told of an error, says that, connects again, and
says which pod answers then.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
import time

from kubypass_lab.box.patience import ANSWER_S, DEADLINE_S

protocol, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}[protocol]


def say(word: object) -> None:
    """One line."""
    print(word, flush=True)


def connect() -> socket.socket:
    """A new socket."""
    made = socket.socket(family, kind)
    made.settimeout(ANSWER_S)
    made.connect((address, port))
    return made


def ask(client: socket.socket) -> str:
    """The pod that answers."""
    client.send(b"who?\n")
    return str(json.loads(client.recv(65536))["pod"])


def wait(client: socket.socket) -> str:
    """The error that is reported to the socket."""
    deadline = time.monotonic() + DEADLINE_S
    client.settimeout(0.01)
    while time.monotonic() < deadline:
        client.send(b"who?\n")
        try:
            if not client.recv(65536):
                return "end of stream"
        except TimeoutError:
            continue
    return f"none within {DEADLINE_S:g} s"


def answer(line: str, client: socket.socket) -> str:
    """What comes of one line."""
    try:
        if line == "peer":
            return str(client.getpeername()[0])
        return ask(client) if line == "ask" else wait(client)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "silent")


client = connect()
say(ask(client))
for line in sys.stdin:
    say(answer(line.strip(), client))
    if line == "wait\n":
        client = connect()
        say(ask(client))
