# SPDX-License-Identifier: Apache-2.0
"""The head of a request, and the bytes of an answer (RFC 9112). One request a connection; bodies are not read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from kubypass.api.answer import Answer, text_answer

HEAD_BYTES = 8192
"""The longest head of a request; a longer one is answered 431. Go's servers and nginx have such a limit, too."""

_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,4096}) HTTP/(\d)\.\d")
_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Request:
    """One request that can be answered."""

    path: str
    """Without the query."""
    head_only: bool = False
    """Whether it is a HEAD request: the answer has no body."""


def is_whole(head: bytes | bytearray) -> bool:
    """Whether the head ends in these bytes, with an empty line."""
    return _END.search(head) is not None


def parse_request(head: bytes | bytearray) -> Request | Answer:
    """What is asked for, or the answer to a request that is none or asks for what no page here can do."""
    line = bytes(head).lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")
    parts = _LINE.fullmatch(line)
    if parts is None:
        return text_answer("expected: GET /path HTTP/1.1\n", 400)
    if parts[3] != b"1":
        return text_answer("expected HTTP/1.1\n", 505)
    method, target = parts[1].decode(), parts[2].decode("latin-1")
    if method not in _METHODS:
        return text_answer("expected GET or HEAD\n", 405)
    return Request(_path(target), head_only=method == "HEAD")


def _path(target: str) -> str:
    """The path of a target, which may be a whole URL, as for a proxy (RFC 9112, 3.2.2)."""
    if not target.startswith("/") and "://" in target:
        target = "/" + target.partition("://")[2].partition("/")[2]
    return target.partition("?")[0]


def write_answer(answer: Answer, *, head_only: bool = False) -> bytes:
    """The bytes to send. The connection ends with them."""
    body = answer.body.encode()
    headers = (
        ("Content-Type", answer.kind),
        *answer.headers,
        ("Date", formatdate(usegmt=True)),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    )
    lines = [f"HTTP/1.1 {answer.code} {HTTPStatus(answer.code).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
    return head if head_only else head + body
