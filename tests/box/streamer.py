# SPDX-License-Identifier: Apache-2.0
"""Asks services without end from one place, and writes down every answer: streamer.py PLAN LOG [PAUSE_S].

The plan is a JSON list of streams: kind, protocol, address, port. Kinds: `new`, a socket for each question; `fresh`,
the same from a port that was not used for two minutes; `kept`, one socket for all, of UDP from such a port as well: a
datagram from another belongs to what was before. A line of the log is JSON: begin and end in seconds of
CLOCK_MONOTONIC, the stream's number, outcome.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import signal
import socket
import sys
import time
from pathlib import Path

from kubypass_lab.box.patience import ANSWER_S

PAUSE_S = 0.001
Stream = dict[str, str]


FRESH = {"fresh": (32768, 28000, 200), "kept": (10000, 18000, 100)}
"""The ports of a kind: the first one, how many, and how many of them a second pass by."""
PLACE = Path("/proc/self/ns/net").stat().st_ino * 7919
"""Where this network namespace is in the round of ports: no two places use one at the same moment."""


def bind_fresh(made: socket.socket, kind: str) -> None:
    """Binds to a port that no process here had in the last two minutes: the clock says which."""
    first, ports, per_s = FRESH[kind]
    tick = PLACE + int(time.monotonic() * per_s)
    for number in range(tick, tick + 1000):
        with contextlib.suppress(OSError):
            made.bind(("::" if made.family == socket.AF_INET6 else "", first + number % ports))
            return


def dial(stream: Stream) -> socket.socket:
    kind = socket.SOCK_STREAM if stream["protocol"] == "TCP" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in stream["address"] else socket.AF_INET
    made = socket.socket(family, kind)
    made.settimeout(ANSWER_S)
    if kind == socket.SOCK_DGRAM and stream["kind"] in FRESH:
        bind_fresh(made, stream["kind"])
    try:
        made.connect((stream["address"], int(stream["port"])))
    except OSError:
        made.close()
        raise
    return made


def converse(made: socket.socket, number: int) -> str:
    """The pod that answers this very question."""
    made.send(f"{number}\n".encode())
    text = made.recv(65536)
    if not text:
        return "closed"
    answer = json.loads(text)
    if answer["request"] != str(number):
        return f"an answer to {answer['request']}"
    return f"ok {answer['pod']}"


def ask(stream: Stream, kept: dict[int, socket.socket], index: int, number: int) -> str:
    made = kept.pop(index, None)
    try:
        made = made or dial(stream)
        outcome = converse(made, number)
    except TimeoutError:
        outcome = "timeout"
    except OSError as error:
        outcome = errno.errorcode[error.errno or 0].lower()
    if made and stream["kind"] == "kept" and outcome.startswith("ok"):
        kept[index] = made
    elif made:
        made.close()
    return outcome


def main() -> None:
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    plan: list[Stream] = json.loads(Path(sys.argv[1]).read_text())
    pause_s = float(sys.argv[3]) if len(sys.argv) > 3 else PAUSE_S
    kept: dict[int, socket.socket] = {}
    number = 0
    with Path(sys.argv[2]).open("w", buffering=1) as log:
        while not ended:
            number += 1
            index = random.randrange(len(plan))
            begin_s = time.monotonic()
            outcome = ask(plan[index], kept, index, number)
            log.write(json.dumps([begin_s, time.monotonic(), index, outcome]) + "\n")
            time.sleep(pause_s)


if __name__ == "__main__":
    main()
