# SPDX-License-Identifier: Apache-2.0
"""An answer to one HTTP request, and the kinds of answer that several routes give."""

from __future__ import annotations

import json
from dataclasses import dataclass

NO_SNIFF = ("X-Content-Type-Options", "nosniff")
_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """The status code, the headers and the body."""

    code: int
    body: str
    kind: str
    """The Content-Type."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers besides Content-Type, Date, Content-Length and Connection."""


def text_answer(body: str, code: int = 200) -> Answer:
    """Plain text."""
    return Answer(code, body, _PLAIN, (NO_SNIFF,))


def json_answer(value: object, code: int = 200) -> Answer:
    """JSON without line breaks."""
    return Answer(code, json.dumps(value), "application/json")


def not_found() -> Answer:
    """The answer of Go's servers to an unknown path."""
    return text_answer("404 page not found\n", 404)
