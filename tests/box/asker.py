# SPDX-License-Identifier: Apache-2.0
"""Stays in one place and dials from there: each line of standard input is a JSON list of calls, all made at once.

An answer has `outcome`: `ok`, or the error's name in lower case (`econnrefused`, `timeout`); with `ok`, what the
responder said, and `peer`, which the socket takes for the other end.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kubypass_lab.box.patience import ANSWER_S

Call = dict[str, object]
_open: dict[str, socket.socket] = {}


def dial(call: Call) -> socket.socket:
    """A connected socket, TCP or UDP."""
    address, port = str(call["address"]), int(str(call["port"]))
    kind = socket.SOCK_STREAM if call["protocol"] == "TCP" else socket.SOCK_DGRAM
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        made.settimeout(float(str(call.get("timeout_s", ANSWER_S))))
        if call.get("source") or call.get("source_port"):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((str(call.get("source") or ""), int(str(call.get("source_port") or 0))))
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def converse(made: socket.socket) -> Call:
    """One question, and the answer to it."""
    made.send(b"who?\n")
    text = made.recv(65536)
    if not text:
        raise ConnectionResetError(errno.ECONNRESET, "closed")
    peer = made.getpeername()
    return {"outcome": "ok", "peer": f"{peer[0]} {peer[1]}", **json.loads(text)}


def ask(call: Call) -> Call:
    """Asks over a new socket."""
    with dial(call) as made:
        return converse(made)


def send_to(call: Call) -> Call:
    """Asks by an unconnected socket; `peer` is where the answer came from."""
    address = str(call["address"])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.settimeout(float(str(call.get("timeout_s", ANSWER_S))))
        made.sendto(b"who?\n", (address, int(str(call["port"]))))
        text, peer = made.recvfrom(65536)
    return {"outcome": "ok", "peer": f"{peer[0]} {peer[1]}", **json.loads(text)}


def keep(call: Call) -> Call:
    """Over a socket that stays open under a name."""
    made = dial(call)
    _open[str(call["name"])] = made
    return converse(made)


def again(call: Call) -> Call:
    """Over the open socket of that name."""
    made = _open[str(call["name"])]
    made.settimeout(float(str(call.get("timeout_s", ANSWER_S))))
    return converse(made)


def close(call: Call) -> Call:
    """The end of the open socket of that name."""
    _open.pop(str(call["name"])).close()
    return {"outcome": "ok"}


HOW: dict[str, Callable[[Call], Call]] = {
    "ask": ask, "send_to": send_to, "keep": keep, "again": again, "close": close,
}  # fmt: skip


def answer(call: Call) -> Call:
    try:
        return HOW[str(call["how"])](call)
    except TimeoutError as error:
        return {"outcome": "timeout" if error.errno is None else "etimedout"}
    except OSError as error:
        return {"outcome": errno.errorcode[error.errno or 0].lower()}


def main() -> None:
    with ThreadPoolExecutor(64) as pool:
        for line in sys.stdin:
            print(json.dumps(list(pool.map(answer, json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
