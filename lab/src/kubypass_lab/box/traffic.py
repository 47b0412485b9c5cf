# SPDX-License-Identifier: Apache-2.0
"""Requests a web page again and again, with a new connection for each request.

Each line of the log is one request: its begin and end in seconds of CLOCK_MONOTONIC (the same in every namespace),
then `ok` or the error. A request succeeds if the page is nginx's welcome page.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kubypass_lab.box.patience import ANSWER_S

PAUSE_S = 0.004
WELCOME = b"Welcome to nginx!"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Times are in seconds of CLOCK_MONOTONIC."""

    begin_s: float
    end_s: float
    outcome: str  # `ok`, or the error


def read_log(log: Path) -> list[Request]:
    """All requests that are finished."""
    return _parse(log.read_text()) if log.is_file() else []


def read_latest(log: Path) -> Request | None:
    """The request that was finished last."""
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 512))
        text = file.read().decode()
    requests = _parse(text.partition("\n")[2] or text)
    return requests[-1] if requests else None


def _parse(text: str) -> list[Request]:
    whole, _, _ = text.rpartition("\n")
    fields = [line.split(" ", 2) for line in whole.splitlines()]
    return [Request(float(begin), float(end), outcome) for begin, end, outcome in fields]


def fetch(host: str, port: int) -> str:
    """Fetch / over a new connection. Returns `ok` or the error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect((host, port))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            page = b""
            while piece := client.recv(65536):
                page += piece
        except OSError as error:
            return (
                type(error).__name__
                if isinstance(error, TimeoutError)
                else os.strerror(error.errno or 0)
            )
    return "ok" if WELCOME in page else f"wrong page of {len(page)} bytes"


def main() -> None:
    """Send requests until SIGTERM."""
    parser = argparse.ArgumentParser(description="Asks a web page again and again.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--log", required=True, type=Path)
    arguments = parser.parse_args()
    url = urlsplit(arguments.url)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    with arguments.log.open("w", buffering=1) as log:
        while not stopped:
            begin_s = time.monotonic()
            outcome = fetch(url.hostname or "", url.port or 80)
            log.write(f"{begin_s:.6f} {time.monotonic():.6f} {outcome}\n")
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
